"""The README's paper map and links lead somewhere: it is how one finds a paper's section in the code."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/README.md"), *ROOT.glob("docs/*.md")]
MAP = README.split("## How the pieces fit", 1)[1].split("\n\n")[1]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in MAP.splitlines()[2:]]
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


def test_every_node_is_in_the_readme() -> None:
    """In the paper map or where one generation is told, under its name or without its I2V."""
    assert [name for name in sorted(NODES) if name not in README and name.removesuffix(" for I2V") not in README] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target
