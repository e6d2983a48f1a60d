"""Where the nodes of a workflow stand."""

import json
from itertools import combinations
from pathlib import Path

import pytest

import dev
from tools.lay_out_workflow import columns, kept_note, place

GRAPHS = sorted((dev.ROOT / "workflows/api").glob("*.json"))


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_every_node_stands_left_of_its_users_and_none_overlap(path: Path) -> None:
    api = json.loads(path.read_text())
    at = {number: index for index, column in enumerate(columns(api)) for number in column}
    assert at.keys() == api.keys()
    for number, node in api.items():
        sources = [value[0] for value in node["inputs"].values() if isinstance(value, list)]
        assert all(at[source] < at[number] for source in sources)
    places = place(api, {number: (200.0 + 10 * int(number), 150.0) for number in api}, note=True)
    assert places.keys() == {*api, "note"}
    for (x, y, width, height), (left, top, wide, high) in combinations(places.values(), 2):
        assert x + width <= left or left + wide <= x or y + height <= top or top + high <= y


def test_the_note_of_an_earlier_layout_is_kept(tmp_path: Path) -> None:
    assert kept_note(tmp_path / "new.json") == ""
    assert kept_note(dev.ROOT / "workflows/loop.json").startswith("## A loop from one image")
