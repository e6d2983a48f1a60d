"""Bring `locales/` to what the nodes say: English from their schemas, the keys of every other language the same.

    python tools/locales.py

A text that a language lacks is written as "", and listed; a text whose node or input went away is dropped. Needs
what `python3 dev.py test` installs.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

Words = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "en"
FILES = ("nodeDefs.json", "main.json")


def definitions(info: dict[str, Any]) -> Words:
    """The words of our nodes in the front end's form, from what the host says of all nodes (`/object_info`)."""
    return {key: _definition(node) for key, node in sorted(info.items()) if key.startswith("I2V")}


def _definition(node: dict[str, Any]) -> Words:
    inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
    outputs = zip(node["output_name"], node["output_tooltips"], strict=True)
    return {
        "display_name": node["display_name"],
        "description": node["description"],
        "inputs": {name: {"name": name, "tooltip": spec[1]["tooltip"]} for name, spec in inputs.items()},
        "outputs": {str(i): {"name": name, "tooltip": tooltip} for i, (name, tooltip) in enumerate(outputs)},
    }


def menu(info: dict[str, Any]) -> Words:
    """The names in the menu of nodes that are ours alone; what the host's nodes use too is the host's to translate."""
    ours, theirs = (
        {part for key, node in info.items() if key.startswith("I2V") == mine for part in node["category"].split("/")}
        for mine in (True, False)
    )
    return {"nodeCategories": {part: part for part in sorted(ours - theirs)}}


def followed(source: Words, known: Words) -> Words:
    """The keys of `source` with the words of `known`, "" where it has none."""
    return {
        key: followed(value, known.get(key) or {}) if isinstance(value, dict) else known.get(key, "")
        for key, value in source.items()
    }


def missing(words: Words, path: str = "") -> list[str]:
    """Where texts are empty, as dotted keys."""
    found = []
    for key, value in words.items():
        place = f"{path}.{key}" if path else key
        found += missing(value, place) if isinstance(value, dict) else [place] * (not value)
    return found


def read(language: str, name: str) -> Words:
    path = ROOT / "locales" / language / name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def write(language: str, name: str, words: Words) -> None:
    text = json.dumps(words, indent=1, ensure_ascii=False) + "\n"
    (ROOT / "locales" / language / name).write_text(text, encoding="utf-8")


def main() -> int:
    sys.path[1:1] = [str(ROOT)]
    import dev
    from tools.comfy_server import ComfyServer

    with tempfile.TemporaryDirectory() as base:
        arguments = [*dev.isolated(Path(base)), "--cpu"]
        with ComfyServer(Path(sys.executable), dev.find_host(), *arguments, log=Path(base) / "server.log") as server:
            info = server.object_info()
    english = dict(zip(FILES, (definitions(info), menu(info)), strict=True))
    for language in sorted(path.name for path in (ROOT / "locales").iterdir()):
        for name, source in english.items():
            words = source if language == SOURCE else followed(source, read(language, name))
            write(language, name, words)
            for place in missing(words):
                print(f"locales/{language}/{name} lacks {place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
