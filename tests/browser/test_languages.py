"""The real front end shows our nodes in the language that its settings name, and the pictures of their help pages."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import dev
from tools import locales
from tools.comfy_server import ComfyServer
from tools.front_end import front_end

pytest.importorskip("playwright.sync_api")

SHOWN = """async (id) => {
  await window.app.graph.clear()
  const node = window.LiteGraph.createNode(id)
  window.app.graph.add(node)
  const named = (slots) => Object.fromEntries(slots.map((slot) => [slot.name, slot.localized_name ?? slot.label]))
  return {
    title: node.title,
    category: node.constructor.category,
    names: { ...named(node.inputs), ...Object.fromEntries(node.widgets.map((each) => [each.name, each.label])) },
    outputs: node.outputs.map((slot) => slot.localized_name ?? slot.label),
  }
}"""


@pytest.fixture(scope="module")
def page(host: ComfyServer, chromium: str) -> Iterator[Any]:
    """The front end in Chinese."""
    host.post("/settings", {"Comfy.Locale": "zh"})
    with front_end(host, chromium, dev.ROOT / "demo/images") as page:
        yield page
    host.post("/settings", {"Comfy.Locale": "en"})


# 1.32.9, the front end of ComfyUI 0.3.75, loads its own Chinese over ours; 1.58.1 shows both.
SHOWS_OURS = (1, 58)
FRONT_END = tuple(int(part) for part in version("comfyui-frontend-package").split(".")[:2])


@pytest.mark.skipif(SHOWS_OURS > FRONT_END, reason="this front end forgets the words of custom nodes")
@pytest.mark.parametrize("node", ["I2VLoadCheckpoint", "I2VEncodeImage", "I2VCombineVideo"])
def test_nodes_are_shown_in_chinese(page: Any, node: str, tmp_path: Path) -> None:
    words, shown = locales.read("zh", "nodeDefs.json")[node], page.evaluate(SHOWN, node)
    page.screenshot(path=tmp_path / f"{node}.png")
    assert shown["title"] == words["display_name"]
    for name, texts in words["inputs"].items():
        assert shown["names"][name] == texts["name"], name
    outputs = [words["outputs"][str(i)]["name"] for i in range(len(words["outputs"]))]
    assert shown["outputs"] == outputs


@pytest.mark.parametrize("picture", sorted((dev.ROOT / "web/docs").glob("*.jpg")), ids=lambda path: path.stem)
def test_the_pictures_of_help_pages_are_served(host: ComfyServer, picture: Path) -> None:
    assert host.read(f"/extensions/{dev.PACK}/docs/{picture.name}") == picture.read_bytes()
