"""What saved workflows rely on never changes: node ids, the names and order of inputs, the order of outputs.

New inputs and outputs go to the end, and then into `frozen_nodes.json`:
`python -m pytest tests/nodes/test_frozen.py --freeze` writes it anew, but only if nothing that was there has changed.
"""

import json
from pathlib import Path
from typing import Any

import pytest

Interface = dict[str, dict[str, list[str]]]
FROZEN = Path(__file__).with_name("frozen_nodes.json")


def described(node: Any) -> dict[str, list[str]]:
    """Inputs as `name: TYPE` and outputs as `TYPE`, in their order."""
    schema = node.GET_SCHEMA()
    return {
        "inputs": [f"{each.id}: {each.get_io_type()}" for each in schema.inputs],
        "outputs": [each.get_io_type() for each in schema.outputs],
    }


def breaks(frozen: Interface, now: Interface) -> list[str]:
    """What saved workflows would stumble over: a node that went, or anything but additions at the end."""
    gone = [f"{name} went" for name in frozen if name not in now]
    return gone + [
        f"{name}: saved workflows hold its {part} by position and name"
        for name in frozen
        if name in now
        for part, entries in frozen[name].items()
        if now[name][part][: len(entries)] != entries
    ]


def test_nodes_keep_their_ids_inputs_and_outputs(node_classes: dict[str, Any], request: pytest.FixtureRequest) -> None:
    now = {name: described(node) for name, node in sorted(node_classes.items())}
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert breaks(frozen, now) == []
    if request.config.getoption("--freeze"):
        FROZEN.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        frozen = now
    assert frozen == now, "new inputs or nodes are not frozen yet: run with --freeze"


BEFORE: Interface = {"Node": {"inputs": ["model: MODEL", "steps: INT", "seed: INT"], "outputs": ["LATENT"]}}


@pytest.mark.parametrize(
    "inputs",
    [
        ["model: MODEL", "seed: INT", "steps: INT"],
        ["model: MODEL", "steps: INT"],
        ["model: MODEL", "new: INT", "steps: INT", "seed: INT"],
        ["model: MODEL", "steps: FLOAT", "seed: INT"],
        ["model: MODEL", "number_of_steps: INT", "seed: INT"],
    ],
    ids=["reordered", "deleted", "inserted", "another type", "renamed"],
)
def test_every_change_but_an_addition_at_the_end_is_refused(inputs: list[str]) -> None:
    assert breaks(BEFORE, {"Node": {**BEFORE["Node"], "inputs": inputs}}) != []
    assert breaks(BEFORE, {}) == ["Node went"]


def test_additions_at_the_end_and_new_nodes_are_welcome() -> None:
    longer = {part: [*entries, "more: INT"] for part, entries in BEFORE["Node"].items()}
    assert breaks(BEFORE, {"Node": longer, "Other": BEFORE["Node"]}) == []
