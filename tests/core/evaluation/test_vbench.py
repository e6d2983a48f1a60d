"""The folder for VBench-I2V has the names that its tool expects, and captions that cannot be names are refused."""

from pathlib import Path

import pytest
from PIL import Image

from i2v_core.evaluation.items import Item
from i2v_core.evaluation.vbench import export_vbench


def item(folder: Path, name: str, caption: str | None, color: int = 0) -> Item:
    (folder / f"{name}.mp4").write_bytes(name.encode())
    Image.new("RGB", (8, 8), (color, 0, 0)).save(folder / f"{name}.png")
    return Item(name, {"results": folder / f"{name}.mp4"}, image=folder / f"{name}.png", caption=caption)


def test_files_are_named_by_caption_and_number(tmp_path: Path) -> None:
    items = [item(tmp_path, "a", "a cat"), item(tmp_path, "b", "a cat"), item(tmp_path, "c", "a dog", 9)]
    assert export_vbench(items, "results", tmp_path / "out") == 3
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert names == {"images/a cat.jpg", "images/a dog.jpg", "videos/a cat-0.mp4", "videos/a cat-1.mp4",
                     "videos/a dog-0.mp4"}  # fmt: skip
    assert (tmp_path / "out/videos/a cat-1.mp4").read_bytes() == b"b"


@pytest.mark.parametrize(
    ("second", "color", "sentence"),
    [(None, 0, "has not a caption"), ("left/right", 0, "is no file name"), ("a" * 300, 0, "is no file name"),
     ("a cat", 9, "stands for two: 'a.png' and 'b.png'")],
)  # fmt: skip
def test_what_vbench_cannot_tell_apart_is_refused(
    tmp_path: Path, second: str | None, color: int, sentence: str
) -> None:
    items = [item(tmp_path, "a", "a cat"), item(tmp_path, "b", second, color)]
    with pytest.raises(ValueError, match=sentence):
        export_vbench(items, "results", tmp_path / "out")
    assert not (tmp_path / "out").exists()
