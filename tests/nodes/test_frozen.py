"""What saved workflows rely on never changes: node ids, the names and order of inputs, the order of outputs.

New inputs and outputs go to the end, and then into `frozen_nodes.json`:
`python -m pytest tests/nodes/test_frozen.py --freeze` writes it anew.
"""

import json
from pathlib import Path
from typing import Any

import pytest

FROZEN = Path(__file__).with_name("frozen_nodes.json")


def described(node: Any) -> dict[str, list[str]]:
    """Inputs as `name: TYPE` and outputs as `TYPE`, in their order."""
    schema = node.GET_SCHEMA()
    return {
        "inputs": [f"{each.id}: {each.get_io_type()}" for each in schema.inputs],
        "outputs": [each.get_io_type() for each in schema.outputs],
    }


def test_nodes_keep_their_ids_inputs_and_outputs(node_classes: dict[str, Any], request: pytest.FixtureRequest) -> None:
    now = {name: described(node) for name, node in sorted(node_classes.items())}
    if request.config.getoption("--freeze"):
        FROZEN.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert frozen.keys() == now.keys(), "a node id went, or a new one is not frozen yet"
    for name, before in frozen.items():
        for part, entries in before.items():
            assert now[name][part] == entries, f"{name}: saved workflows hold its {part} by position and name"
