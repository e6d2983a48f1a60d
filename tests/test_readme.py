"""The README's paper map and links lead somewhere: it is how one finds a paper's section in the code."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/README.md"), *ROOT.glob("docs/*.md")]
MAP = README.split("## How the pieces fit", 1)[1].split("\n\n")[1]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in MAP.splitlines()[2:]]
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef
NODES = {
    node["display_name"]
    for node in json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8")).values()
}


def quoted(cell: str) -> list[str]:
    """What stands in backticks, outside of parentheses."""
    return re.findall(r"`([^`]+)`", re.sub(r"\(.*?\)", "", cell))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_every_row_of_the_paper_map_leads_to_files_nodes_and_tests(row: list[str]) -> None:
    _, core, nodes, workflows, tests = row
    for path in quoted(core):
        assert (ROOT / "i2v_core" / path).exists() or (ROOT / path).exists(), path
    for name in re.sub(r"\(.*?\)", "", nodes).split(","):
        named = name.strip()[:1].isupper()  # else it is words
        assert not named or name.strip() in NODES, f"{name} is no node, or `python tools/locales.py` was not run"
    for name in quoted(workflows):
        assert (ROOT / f"workflows/{name}.json").is_file(), name
    folder = ROOT / "tests"
    for path in quoted(tests):
        # A bare name lies where the one before it does.
        folder = (ROOT / "tests" / path).parent if "/" in path else folder
        assert (folder / Path(path).name).exists(), path


def numbers(text: str) -> set[int]:
    """The equations that a text names: "equation 5", "eq. 3 to 9", "equations 9 and 11"."""
    found: set[int] = set()
    for first, joined, last in re.findall(r"\b[Ee]q(?:uation|\.)s? (\d+)(?: (to|and|or) (\d+))?", text):
        found |= set(range(int(first), int(last) + 1)) if joined == "to" else {int(n) for n in (first, last) if n}
    return found


def test_every_equation_of_a_docstring_is_in_the_paper_map() -> None:
    """In the rows of its file, so that a reader of the paper finds the file by the equation."""
    missing = []
    for path in sorted(ROOT.glob("i2v_core/**/*.py")):
        name = path.relative_to(ROOT / "i2v_core").as_posix()
        nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, DOCUMENTED)]
        named = numbers(" ".join(re.sub(r"\s+", " ", ast.get_docstring(node) or "") for node in nodes))
        rows = [row for row in ROWS if any(name == cell or name.startswith(f"{cell}/") for cell in quoted(row[1]))]
        told = numbers(" ".join(row[0] for row in rows))
        missing += [f"{name}: equation {number}" for number in sorted(named - told)]
    assert missing == []


def test_every_node_is_in_the_readme() -> None:
    """In the paper map or where one generation is told, under its name or without its I2V."""
    assert [name for name in sorted(NODES) if name not in README and name.removesuffix(" for I2V") not in README] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target
