"""Configurations, stories, protocols, tables and captions, damaged."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from i2v_core.data.layouts import list_entries
from i2v_core.decoding import decode
from i2v_core.evaluation.protocol import read_protocol
from i2v_core.stories import read_story
from i2v_core.training.config_file import read_config, write_config
from i2v_core.training.methods import method_names, training_of
from tests.fuzz.driver import ROOT, Refused
from tests.fuzz.odd import FRAGMENTS, damaged, dumped, mutated

STORY = [
    "zoom in",
    {"prompt": "pan left", "negative": "blur", "seed": 3, "frames": 8, "guidance": 2.5, "text_scale": 7.5},
]
PROTOCOL = {
    "clips": 3, "seed": 1, "frames": 4, "height": 32, "width": 32, "steps": 2, "guidance": 1.5, "fps": 8.0,
    "photographs": ["skimage:coffee.png"],
}  # fmt: skip
ROWS = [{"file_name": "a.mp4", "text": "zoom in"}, {"file_name": "b.mp4", "caption": "pan, left"}]
DATA = {"kind": "files", "path": "videos", "frames": 16, "target_fps": 8.0, "image_fps": 4.0, "seed": 2}
TOML_ODD = (
    "nan",
    "-inf",
    "2024-02-31",
    "1979-05-27T07:32:00Z",
    "{a." + "b." * 200 + "c = 1}",
    "'''",
    '"""x"""""',
    "0x" + "f" * 400,
)


def prepare(folder: Path) -> list[str]:
    """The texts of the example configurations, one with every section."""
    whole = [path.read_text() for path in sorted(ROOT.glob("configs/*.toml"))]
    data = "\n".join(f"{name} = {json.dumps(value)}" for name, value in DATA.items())
    return [*whole, f'[method]\nname = "trip"\n[train]\noutput_dir = "runs"\nmax_train_steps = 3\n[data]\n{data}\n']


def run(configurations: list[str], folder: Path, chance: random.Random) -> str:
    """Make one damaged text and read it."""
    place = folder / "texts"
    place.mkdir(exist_ok=True)
    for path in place.iterdir():
        path.unlink()
    kind = chance.choice(("toml", "toml", "toml", "story", "story", "protocol", "protocol", "jsonl", "csv", "caption"))
    text, read = _case(kind, configurations, place, chance)
    content = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.3:
        content = damaged(content, chance)
    names = {"toml": "config.toml", "jsonl": "metadata.jsonl", "csv": "table.csv", "caption": "a.txt"}
    path = place / names.get(kind, f"{kind}.json")
    if kind == "caption":
        (place / "a.mp4").touch()
    path.write_bytes(content)
    try:
        read(path)
    except Exception as error:
        raise Refused(error) from error
    return kind


def _case(
    kind: str, configurations: list[str], place: Path, chance: random.Random
) -> tuple[str, Callable[[Path], Any]]:
    if kind == "toml":
        return _toml(chance.choice(configurations), chance), _configuration
    if kind == "story":
        return dumped(mutated(STORY, chance), chance), read_story
    if kind == "protocol":
        return dumped(mutated(PROTOCOL, chance), chance), read_protocol
    if kind == "jsonl":
        return "\n".join(dumped(mutated(row, chance), chance) for row in ROWS * 3), list_entries
    if kind == "csv":
        cells = ("file_name", "text", '"', '""', "a,b", "x" * 200_000, "\r", "\n", "\u2028", '"a\nb"', "a.mp4", ",", "")
        rows = "\n".join(",".join(chance.choice(cells) for _ in range(chance.randrange(1, 4))) for _ in range(6))
        return chance.choice(("file_name,text\n", "videoid,name\n", "")) + rows, list_entries
    return chance.choice(("zoom in", "", "\ufeff", "x" * 2_000_000, "a\x00b", "\u2028")), lambda _: list_entries(place)


def _configuration(path: Path) -> None:
    """Read a configuration as a training does, and what it says of its method; what is accepted is written and kept."""
    config = read_config(path)
    method = method_names().get(config.method.name)
    if method is not None:
        decode(training_of(method).options, config.method.options, "method.options")
        decode(method.config, config.method.adapter, "method.adapter")
    write_config(config, path.with_name("again.toml"))
    if read_config(path.with_name("again.toml")) != config:
        raise AssertionError("written and read again, it is another")


def _toml(text: str, chance: random.Random) -> str:
    lines = text.splitlines()
    for _ in range(chance.choice((1, 1, 2, 6))):
        number = chance.randrange(len(lines))
        odd = chance.choice((*FRAGMENTS, *TOML_ODD))
        how = chance.randrange(5)
        if how <= 1 and "=" in lines[number]:
            lines[number] = f"{lines[number].partition('=')[0]}= {odd}"
        elif how == 2:
            del lines[number]
        elif how == 3:
            lines.insert(
                number, chance.choice((lines[number], f"surprise = {odd}", "[data]", "data = 3", "[[train]]", odd))
            )
        else:
            lines[number] = re.sub(r"\w+", lambda word: chance.choice((word[0], word[0] + "x")), lines[number], count=1)
        lines = lines or [""]
    return "\n".join(lines)
