"""Where the nodes of a workflow stand, and what its thumbnail shows."""

import json
from itertools import combinations
from pathlib import Path

import pytest
import torch
from PIL import Image

import dev
from i2v_core.video import write_video
from tools.lay_out_workflow import columns, kept_note, place, write_thumbnail

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


def test_a_thumbnail_is_made_of_a_picture_or_six_frames(tmp_path: Path) -> None:
    Image.new("RGBA", (1000, 500), (255, 0, 0, 255)).save(tmp_path / "red.png")
    write_thumbnail(tmp_path / "red.png", tmp_path / "red.jpg")
    with Image.open(tmp_path / "red.jpg") as picture:
        assert picture.size == (768, 384)
    frames = torch.linspace(0, 255, 11).to(torch.uint8)[:, None, None, None].expand(11, 32, 48, 3).contiguous()
    write_video(tmp_path / "clip.mp4", frames, 8)
    write_thumbnail(tmp_path / "clip.mp4", tmp_path / "clip.jpg")
    with Image.open(tmp_path / "clip.jpg") as sheet:
        assert sheet.size == (768, 341)
        levels = [sheet.getpixel((x, y))[0] for y in (80, 250) for x in (128, 384, 640)]
    assert levels == sorted(levels)
    assert levels[-1] - levels[0] > 200
