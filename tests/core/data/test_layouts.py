"""The same clips are found in every layout, with their captions; what is missing or unreadable is named."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from i2v_core.data import open_data
from i2v_core.data.layouts import list_entries
from tests.core.data.written import config, labeled, numbers_of, record_labeled

FRAMES = 40  # of a folder
CAPTIONS = {"a.mp4": "a cat, panning left", "b.mp4": "a cat: zoom in"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_labeled(tmp_path_factory.mktemp("clip") / "clip.mp4", g="12")


def with_texts(folder: Path, clip: Path) -> None:
    for name, caption in CAPTIONS.items():
        place = folder / "deeper" / "and_deeper" if name == "b.mp4" else folder
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, place / name)
        (place / name).with_suffix(".txt").write_text(f"\n{caption}  \n")


def with_jsonl(folder: Path, clip: Path, file: str = "file_name", text: str = "text") -> None:
    (folder / "videos").mkdir()
    lines = []
    for name, caption in CAPTIONS.items():
        shutil.copy(clip, folder / "videos" / name)
        lines.append(json.dumps({file: f"videos/{name}", text: caption, "fps": 30}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n\n")


def with_prompts(folder: Path, clip: Path) -> None:
    for name in CAPTIONS:
        shutil.copy(clip, folder / name)
    (folder / "videos.txt").write_text("\n".join(CAPTIONS) + "\n")
    (folder / "prompts.txt").write_text("\n".join(CAPTIONS.values()) + "\n")


def as_webvid(folder: Path, clip: Path) -> None:
    rows = ["videoid,contentUrl,duration,page_dir,name"]
    for name, caption in CAPTIONS.items():
        place = folder / "videos" / "000001_000050"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, place / name)
        rows.append(f'{name[0]},https://example.com/{name},PT00H00M03S,000001_000050,"{caption}"')
    (folder / "results_2M_train.csv").write_text("\n".join(rows))


def as_shards(folder: Path, clip: Path) -> None:
    for number, (name, caption) in enumerate(CAPTIONS.items()):
        content = folder / "content"
        content.mkdir()
        shutil.copy(clip, content / name)
        if number:
            (content / name).with_suffix(".json").write_text(json.dumps({"caption": caption, "id": 7}))
        else:
            (content / name).with_suffix(".txt").write_text(caption)
        with tarfile.open(folder / f"shard-{number:06}.tar", "w") as archive:
            for path in sorted(content.iterdir()):
                archive.add(path, path.name)
        shutil.rmtree(content)


def as_frames(folder: Path, clip: Path) -> None:
    for number, (name, caption) in enumerate(CAPTIONS.items()):
        frames = folder / name[0]
        frames.mkdir()
        for i in range(FRAMES):
            Image.fromarray(labeled(i)).save(frames / f"frame_{i}.png", compress_level=0)
        (frames / "caption.txt" if number else folder / f"{name[0]}.txt").write_text(caption)


LAYOUTS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "texts beside videos": ("files", with_texts),
    "metadata.jsonl": ("metadata", with_jsonl),
    "metadata.jsonl of others": ("metadata", lambda folder, clip: with_jsonl(folder, clip, "video_path", "caption")),
    "one more": ("metadata", lambda folder, clip: with_jsonl(folder, clip, "video", "prompt")),
    "prompts.txt and videos.txt": ("prompts", with_prompts),
    "WebVid": ("csv", as_webvid),
    "WebDataset": ("shards", as_shards),
    "folders of frames": ("files", as_frames),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_clips(tmp_path: Path, clip: Path, name: str) -> None:
    layout, write = LAYOUTS[name]
    write(tmp_path, clip)
    data = open_data(config(tmp_path, target_fps=10.0, image_fps=30.0))
    assert data.audit.layout == layout
    assert not [row for row in data.audit.rows if row.problem]
    items = [data.clip(item) for item in range(2)]
    assert sorted(item.caption for item in items) == sorted(CAPTIONS.values())
    for item in items:
        shown = numbers_of(item.pixels)
        assert shown == list(range(shown[0], shown[0] + 24, 3)), "exact frames, 10 of 30 a second"
        assert item.fps == 10


def test_a_metadata_file_or_one_archive_may_be_given_itself(tmp_path: Path, clip: Path) -> None:
    with_jsonl(tmp_path, clip)
    other = (tmp_path / "metadata.jsonl").rename(tmp_path / "validation.jsonl")
    assert len(list_entries(other).entries) == 2
    (tmp_path / "shards").mkdir()
    as_shards(tmp_path / "shards", clip)
    [entry] = list_entries(tmp_path / "shards" / "shard-000001.tar").entries
    assert (entry.name, entry.caption) == ("shard-000001.tar/b.mp4", CAPTIONS["b.mp4"])


def test_what_a_table_gets_wrong_is_named(tmp_path: Path, clip: Path) -> None:
    shutil.copy(clip, tmp_path / "a.mp4")
    lines = ['{"file_name": "a.mp4"}', '{"file_name": "gone.mp4", "text": "x"}', "no json", "[1]", '{"text": "x"}']
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    found = {entry.name: entry for entry in list_entries(tmp_path).entries}
    assert found["a.mp4"].caption is None
    assert not found["a.mp4"].problem
    assert found["gone.mp4"].problem == "does not exist"
    assert "no valid JSON" in found["metadata.jsonl line 3"].problem
    assert found["metadata.jsonl line 4"].problem == "is no JSON object"
    assert "names no file" in found["metadata.jsonl line 5"].problem


def test_captions_are_read_by_their_byte_order_mark_and_else_as_utf_8(tmp_path: Path, clip: Path) -> None:
    for name, text in {"a": "\ufeffÖl".encode("utf-16-le"), "b": "Öl".encode("cp1252"), "c": b"[" * 2_000_000}.items():
        shutil.copy(clip, tmp_path / f"{name}.mp4")
        (tmp_path / f"{name}.txt").write_bytes(text)
    found = {entry.name: entry for entry in list_entries(tmp_path).entries}
    assert (found["a.mp4"].caption, found["a.mp4"].problem) == ("Öl", "")
    assert "has no readable caption: " in found["b.mp4"].problem
    assert "no text in UTF-8 (in line 1)" in found["b.mp4"].problem
    assert "larger than 1024 KiB" in found["c.mp4"].problem


def test_compressed_and_broken_archives_are_named(tmp_path: Path, clip: Path) -> None:
    as_shards(tmp_path, clip)
    (tmp_path / "noise.tar").write_bytes(b"\1" * 2000)
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as archive:
        archive.add(clip, "c.mp4")
    data = open_data(config(tmp_path))
    skipped = {row.name: row.problem for row in data.audit.rows if row.problem}
    assert skipped.keys() == {"noise.tar", "packed.tar"}
    assert all("uncompressed tar" in problem for problem in skipped.values())
    assert len(data) == 2


def test_hidden_files_thumbnails_and_loops_are_no_clips(tmp_path: Path, clip: Path) -> None:
    with_texts(tmp_path, clip)
    shutil.copy(clip, tmp_path / ".hidden.mp4")
    (tmp_path / ".cache").mkdir()
    shutil.copy(clip, tmp_path / ".cache" / "c.mp4")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    (tmp_path / "deeper" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert [entry.name for entry in list_entries(tmp_path).entries] == ["a.mp4", "deeper/and_deeper/b.mp4"]


def test_frames_of_unknown_rate_are_taken_by_number(tmp_path: Path, clip: Path) -> None:
    as_frames(tmp_path, clip)
    item = open_data(config(tmp_path, frame_stride=2)).clip(0)
    shown = numbers_of(item.pixels)
    assert shown == list(range(shown[0], shown[0] + 16, 2))
    assert item.fps is None
    with pytest.raises(ValueError, match=r"set data\.image_fps"):
        open_data(config(tmp_path, target_fps=4.0))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "holds no clips"),
        ({"notes.txt": "x"}, "holds no clips"),
        ({"videos.txt": "a.mp4\n"}, r"without prompts\.txt"),
        ({"videos.txt": "a.mp4\nb.mp4\n", "prompts.txt": "one\n"}, r"2 lines in videos\.txt and 1 in prompts\.txt"),
        ({"table.csv": "x,y\n1,2\n"}, r"has the columns x, y"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=reason):
        list_entries(tmp_path)


def test_other_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Set data\.path"):
        list_entries(tmp_path / "gone")
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(ValueError, match="is no data set"):
        list_entries(tmp_path / "a.doc")
