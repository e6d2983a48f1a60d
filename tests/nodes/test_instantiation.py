"""Every node can be made, as the host makes one before it runs it."""

from typing import Any


def test_every_node_can_be_made_and_describes_its_inputs(node_classes: dict[str, Any]) -> None:
    assert node_classes
    for name, node in node_classes.items():
        node.VALIDATE_CLASS()
        assert isinstance(node(), node)
        assert {"required"} <= node.INPUT_TYPES().keys(), name
