"""What people type has one reader: encodings with a mark are read alike, others refused with the file's name."""

import codecs
from collections.abc import Callable
from pathlib import Path

import pytest

from i2v_core.data.layouts import list_entries
from i2v_core.evaluation.items import find_items
from i2v_core.evaluation.protocol import read_protocol
from i2v_core.stories import read_story
from i2v_core.training.config_file import read_config

# U+2028, U+0085 and the vertical tab end a line for `str.splitlines`, and nowhere else.
CAPTION = "Öl über\u2028Wasser\x85ja, 猫"
CONFIG = (
    '[model]\npretrained_model_name_or_path = "{}"\n[method]\nname = "look_back"\n'
    '[train]\nmax_train_steps = 1\noutput_dir = "out"\n'
)


def captions(folder: Path) -> list[str | None]:
    """The captions of a folder's clips, or their problems."""
    return [entry.problem or entry.caption for entry in list_entries(folder).entries]


def evaluated(folder: Path) -> list[str | None]:
    return [item.caption_refusal or item.caption for item in find_items({"results": folder})]


# File, its text, and what reads the caption from it.
READERS: dict[str, tuple[str, str, Callable[[Path], list[str | None]]]] = {
    "caption": ("a.txt", "{}", captions),
    "lines": ("metadata.jsonl", '{{"video": "a.mp4", "text": "{}"}}\n', captions),
    "array": ("dataset.json", '[{{"video": "a.mp4", "text": "{}"}}]', captions),
    "table": ("clips.csv", 'path,text\na.mp4,"{}"\n', captions),
    "prompts": ("prompts.txt", "{}\n", captions),
    "evaluated": ("a.txt", "{}\n", evaluated),
    "story": ("story.json", '["{}"]', lambda folder: [part.prompt for part in read_story(folder / "story.json")]),
    "protocol": (
        "protocol.toml",
        'folder = "{}"\n',
        lambda folder: [str(read_protocol(folder / "protocol.toml").folder)],
    ),
    "training": (
        "training.toml",
        CONFIG,
        lambda folder: [str(read_config(folder / "training.toml").model.pretrained_model_name_or_path)],
    ),
}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, bytes, str], list[str | None]]:
    """Write the caption into the reader's file, in an encoding and behind a mark, and read it."""
    name, form, read = READERS[request.param]
    (tmp_path / "a.mp4").write_bytes(b"not looked at")
    if name == "prompts.txt":
        (tmp_path / "videos.txt").write_text("a.mp4\n")

    def reads(encoding: str, mark: bytes, caption: str) -> list[str | None]:
        (tmp_path / name).write_bytes(mark + form.format(caption).encode(encoding))
        try:
            return read(tmp_path)
        except ValueError as error:
            return [str(error)]

    return reads


def test_what_is_typed_arrives_or_is_refused_by_name(
    reader: Callable[[str, bytes, str], list[str | None]], request: pytest.FixtureRequest
) -> None:
    name = READERS[request.node.callspec.params["reader"]][0]
    typed = CAPTION.replace("\x85", "") if name.endswith(".toml") else CAPTION  # TOML forbids control characters
    for encoding, mark in (("utf-8", b""), ("utf-8", codecs.BOM_UTF8), ("utf-16-le", codecs.BOM_UTF16_LE)):
        assert reader(encoding, mark, typed) == [typed]
    for encoding, text in (("cp1252", "Öl über"), ("gbk", "一只猫跑过草地"), ("utf-16-le", "a cat")):
        [told] = reader(encoding, b"", text)
        assert told is not None and name in told, told
        assert "UTF-8" in told
