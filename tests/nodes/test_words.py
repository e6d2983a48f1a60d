"""What people read: a help page for every node that names all of it, its pictures, and the languages of `locales/`."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import dev
from tools import locales
from tools.comfy_server import ComfyServer

DOCS = dev.ROOT / "web/docs"
SECTIONS = ("When to use it", "Inputs?", "Outputs?", "Example", "Common errors")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
LARGEST_SEED = 0xFFFFFFFFFFFFFFFF


@pytest.fixture(scope="module")
def info(host: ComfyServer) -> dict[str, Any]:
    """What the running server says of all nodes."""
    return host.object_info()


@pytest.fixture(scope="module")
def nodes(info: dict[str, Any]) -> dict[str, Any]:
    """Our nodes by id."""
    return {key: node for key, node in info.items() if key.startswith("I2V")}


def page(key: str) -> str:
    path = DOCS / f"{key}.md"
    assert path.is_file(), f"write web/docs/{key}.md"
    return path.read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """The part of a page below a heading, or "" if it has none."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def table(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def named(cell: str) -> list[str]:
    """The names in the first cell of a row: `width, height (advanced)` are two."""
    return re.sub(r"\(.*?\)", "", cell).replace(" ", "").split(",")


def inputs_of(node: dict[str, Any]) -> dict[str, tuple[str, Any, dict[str, Any]]]:
    """Part (required, optional), type and options of every input."""
    return {
        name: (part, spec[0], spec[1])
        for part in ("required", "optional")
        for name, spec in node["input"].get(part, {}).items()
    }


def test_every_page_has_all_its_sections(nodes: dict[str, Any]) -> None:
    problems = [
        f"{key}: no {title}"
        for key, node in nodes.items()
        for title in SECTIONS
        if not section(page(key), title).strip()
    ]
    problems += [key for key, node in nodes.items() if not page(key).startswith(f"# {node['display_name']}\n")]
    assert problems == []


def test_every_page_names_exactly_the_inputs_and_outputs_of_its_node(nodes: dict[str, Any]) -> None:
    for key, node in nodes.items():
        inputs = [name for row in table(section(page(key), "Inputs?")) for name in named(row[0])]
        assert sorted(inputs) == sorted(inputs_of(node)), f"{key}: the table of inputs"
        outputs = [name for row in table(section(page(key), "Outputs?")) for name in named(row[0])]
        assert outputs == node["output_name"], f"{key}: the table of outputs"


def test_every_page_states_range_default_and_kind_of_its_inputs(nodes: dict[str, Any]) -> None:
    problems = []
    for key, node in nodes.items():
        inputs = inputs_of(node)
        for row in table(section(page(key), "Inputs?")):
            for name in named(row[0]):
                problems += [f"{key}.{name}: {problem}" for problem in differences(row, *inputs[name])]
    assert problems == []


def differences(row: list[str], part: str, kind: Any, options: dict[str, Any]) -> list[str]:
    """Where a row of a table of inputs (name, range, default, advice) is not what the node says."""
    found = [] if ("advanced" in row[0]) == bool(options.get("advanced")) else ["advanced or not"]
    if kind not in WIDGETS and ("optional" in row[0]) != (part == "optional"):
        found.append("optional or not")
    if kind in ("INT", "FLOAT"):
        ends = [f"{options[end]:g}" for end in ("min", "max") if options[end] != LARGEST_SEED]
        if not set(ends) <= set(re.findall(r"-?\d+(?:\.\d+)?", row[1].replace(",", ""))):
            found.append(f"the range is {' to '.join(ends)}")
        if f"{options['default']:g}" not in re.split(r"[, ]+", row[2]):
            found.append(f"the default is {options['default']:g}")
    return found


def test_every_page_shows_a_picture_and_every_picture_is_shown(nodes: dict[str, Any]) -> None:
    assert [key for key in nodes if not PICTURE.search(section(page(key), "Example"))] == []
    shown = set()
    for key in nodes:
        for caption, name in PICTURE.findall(page(key)):
            assert caption, f"{key}: {name} needs words for those who cannot see it"
            with Image.open(DOCS / name) as picture:
                assert picture.width <= 1024
            assert (DOCS / name).stat().st_size <= 100_000
            shown.add(name)
    assert {path.name for path in DOCS.iterdir() if path.suffix != ".md"} == shown, "pictures that no page shows"


def test_no_page_is_of_a_node_that_went(nodes: dict[str, Any]) -> None:
    assert {path.stem for path in DOCS.glob("*.md")} == set(nodes)


def test_tooltips_are_sentences(nodes: dict[str, Any]) -> None:
    for key, node in nodes.items():
        tooltips = [node["description"], *node["output_tooltips"]]
        tooltips += [options.get("tooltip") or "" for _, _, options in inputs_of(node).values()]
        assert not [text for text in tooltips if not re.fullmatch(r"[\w'(].*[.)]", text, re.DOTALL)], key


def test_every_node_is_found_by_further_words_where_the_host_knows_them(
    node_classes: dict[str, Any], nodes: dict[str, Any], host_module: Any
) -> None:
    schema = host_module("comfy_api.latest").io.Schema
    for key, node in node_classes.items():
        assert "search_aliases(" in inspect.getsource(node.define_schema), key
        if "search_aliases" in schema.__dataclass_fields__:
            assert nodes[key]["search_aliases"], key


def test_english_is_what_the_nodes_say(info: dict[str, Any]) -> None:
    again = "run `python tools/locales.py`"
    assert locales.read("en", "nodeDefs.json") == locales.definitions(info), again
    assert locales.read("en", "main.json") == locales.menu(info), again


@pytest.mark.parametrize("name", locales.FILES)
@pytest.mark.parametrize("language", sorted(path.name for path in (dev.ROOT / "locales").iterdir()))
def test_every_language_is_complete(language: str, name: str) -> None:
    words, english = locales.read(language, name), locales.read("en", name)
    assert locales.followed(english, words) == words, "run `python tools/locales.py`"
    assert locales.missing(words) == []


@pytest.mark.parametrize("path", sorted((dev.ROOT / "locales").glob("*/*.json")), ids=lambda path: path.parent.name)
def test_no_text_holds_what_the_front_end_would_fill_in(path: Path) -> None:
    """Its messages read braces, @ and | as placeholders, links and plural forms."""
    assert not re.findall(r"[{}@|]", "".join(texts(json.loads(path.read_text(encoding="utf-8")))))


def texts(words: dict[str, Any]) -> list[str]:
    return [text for value in words.values() for text in (texts(value) if isinstance(value, dict) else [value])]


def test_chinese_is_chinese() -> None:
    """Names may stay Latin, such as crf; whatever explains is translated."""
    for key, node in locales.read("zh", "nodeDefs.json").items():
        explained = [
            node["description"],
            *(part["tooltip"] for kind in ("inputs", "outputs") for part in node[kind].values()),
        ]
        assert not [text for text in explained if not re.search(r"[\u4e00-\u9fff]", text)], key


def test_the_server_gives_the_words_to_the_front_end(host: ComfyServer) -> None:
    served = host.get("/i18n")
    for language in ("en", "zh"):
        assert served[language]["nodeDefs"].items() >= locales.read(language, "nodeDefs.json").items()
        assert served[language]["nodeCategories"]["I2V Diffusion"]
