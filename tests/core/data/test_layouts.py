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


# What a caption may be, and what it is read as: the caption, or the problem.
KINDS: dict[str, tuple[object, str | None, str]] = {
    "number": ({"text": 7}, "7", ""),
    "empty text, full caption": ({"text": " ", "caption": "a cat"}, "a cat", ""),
    "null": ({"text": None, "prompt": "a cat"}, "a cat", ""),
    "one in a list": ({"text": ["a cat"]}, "a cat", ""),
    "several": ({"text": ["", "a cat", "a pet"]}, "a cat", ""),
    "one language": ({"text": {"de": "eine Katze"}}, "eine Katze", ""),
    "languages": ({"text": {"zh-CN": "猫", "en_US": "a cat"}}, "a cat", ""),
    "no English": ({"text": {"zh": "猫", "de": "eine Katze"}}, None, "names zh, de under 'text', none of them 'en'"),
    "truth": ({"text": True}, None, "a bool under 'text' that is no caption"),
    "objects": ({"text": [{"en": "a cat"}]}, None, "a list under 'text' that is no caption"),
}


@pytest.mark.parametrize("form", ["lines", "array", "array in an object", "by file", "shard"])
def test_every_kind_of_caption_is_used_where_its_meaning_is_plain(form: str, tmp_path: Path, clip: Path) -> None:
    rows = {f"{number}.mp4": value for number, (value, _, _) in enumerate(KINDS.values())}
    for name in rows:
        (tmp_path / name).write_bytes(b"not looked at")
    objects = [{"file_name": name} | dict(value) for name, value in rows.items()]  # type: ignore[call-overload]
    if form == "lines":
        (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, objects)))
    elif form == "shard":
        for name, value in rows.items():
            (tmp_path / name).with_suffix(".JSON").write_text(json.dumps(value))
        with tarfile.open(tmp_path / "shard.tar", "w") as archive:
            for path in sorted(tmp_path.glob("*.mp4")) + sorted(tmp_path.glob("*.JSON")):
                archive.add(path, f"./{path.name}")
                path.unlink()
    else:
        content = {"array": objects, "array in an object": {"version": 1, "data": objects}, "by file": rows}[form]
        (tmp_path / "dataset.json").write_text(json.dumps(content))
    listing = list_entries(tmp_path)
    assert len(listing.entries) == len(KINDS)
    for entry, (kind, (_, caption, problem)) in zip(listing.entries, KINDS.items(), strict=True):
        assert entry.caption == caption, kind
        assert problem in entry.problem and bool(problem) == bool(entry.problem), kind
    assert {entry.note for entry in listing.entries} == {
        "", "several captions, the first is used", "captions in several languages, English is used",
    }  # fmt: skip
    if form.startswith("array"):
        assert len(list_entries(tmp_path / "dataset.json").entries) == len(KINDS)


def test_a_table_beside_captioned_videos_that_is_about_something_else_is_set_aside(tmp_path: Path, clip: Path) -> None:
    with_texts(tmp_path, clip)
    (tmp_path / "loss.csv").write_text("step,loss\n1,0.5\n")
    (tmp_path / "metadata.json").write_text('{"creator": "me", "year": 2026}')
    (tmp_path / "umlauts.csv").write_bytes("Größe\n1\n".encode("cp1252"))
    (tmp_path / "backup.tar").write_bytes(b"\1" * 2000)
    audit = open_data(config(tmp_path)).audit
    assert (audit.layout, len(audit.used)) == ("files", 2)
    assert all(row.captioned for row in audit.used)
    assert "set aside: loss.csv has the columns step, loss; clips would be under one of videoid" in audit.text()
    assert "set aside: metadata.json names no clips" in audit.text()
    assert "2 of 4 clips are used" in audit.text(), "what cannot be read is counted"
    assert "skipped: umlauts.csv: is no table of clips: " in audit.text()
    with pytest.raises(ValueError, match="has the columns step, loss; expected one of videoid"):
        list_entries(tmp_path / "loss.csv")


def test_a_table_that_breaks_off_is_named_and_what_stands_before_is_used(tmp_path: Path, clip: Path) -> None:
    shutil.copy(clip, tmp_path / "a.mp4")
    (tmp_path / "clips.csv").write_text('path,text\na.mp4,a cat\nb.mp4,"a dog\nc.mp4,a cow\n')
    found = {entry.name: entry for entry in list_entries(tmp_path).entries}
    assert found["a.mp4"].caption == "a cat"
    assert "the row in line 3 of" in found["clips.csv"].problem


def test_names_of_other_systems_are_understood(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("a", "b"):
        shutil.copy(clip, tmp_path / "videos" / f"{name}.mp4")
    (tmp_path / "videos" / "b.txt").write_text("beside the file")
    rows = [{"video": "videos\\a.mp4", "text": "a cat"}, {"video": "videos\\b.mp4"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [(each.name, each.caption, each.problem) for each in list_entries(tmp_path).entries] == [
        ("videos/a.mp4", "a cat", ""), ("videos/b.mp4", "beside the file", ""),
    ]  # fmt: skip
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "videos" / "a.TXT").write_text("a cat")
    for folder in ("@eaDir", "__MACOSX", "$RECYCLE.BIN"):
        (tmp_path / folder).mkdir()
        shutil.copy(clip, tmp_path / folder / "a.mp4")
    (tmp_path / "videos" / "._a.mp4").write_bytes(b"\0\5\x16\7")
    (tmp_path / "videos" / "._a.txt").write_bytes(b"\0\5\x16\7")
    listing = list_entries(tmp_path)
    assert {entry.name: entry.caption for entry in listing.entries} == {
        "videos/a.mp4": "a cat", "videos/b.mp4": "beside the file",
    }  # fmt: skip


def test_the_current_folder_may_be_one_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    (tmp_path / "caption.txt").write_text("a cat")
    monkeypatch.chdir(tmp_path)
    assert [entry.caption for entry in list_entries(".").entries] == ["a cat"]


def test_a_confined_data_set_takes_no_text_from_elsewhere(tmp_path: Path, clip: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(clip, data / "a.mp4")
    for name, content in {"secret": "a secret", "binary": b"\xff"}.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        (data / "a.txt").unlink(missing_ok=True)
        (data / "a.txt").symlink_to(tmp_path / name)
        [entry] = list_entries(data, confined=True).entries
        assert (entry.caption, entry.problem) == (None, "lies outside of the data's folder")
    (data / "a.txt").unlink()
    (data / "a.txt").write_text("its own")
    assert [entry.caption for entry in list_entries(data, confined=True).entries] == ["its own"]
