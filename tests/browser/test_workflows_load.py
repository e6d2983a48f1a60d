"""Every shipped workflow in the real front end: no node missing, no widget shifted, no error, equal to its API twin."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dev
from tools.comfy_server import ComfyServer
from tools.front_end import answer, front_end, open_editor

pytest.importorskip("playwright.sync_api")

WORKFLOWS = sorted((dev.ROOT / "workflows").glob("*.json"))
LOAD = """async (workflow) => {
  await window.app.loadGraphData(workflow)
  const nodes = window.app.graph.nodes.map((node) => ({
    id: node.id,
    type: node.type,
    known: node.type in window.LiteGraph.registered_node_types,
    errors: Boolean(node.has_errors),
    values: node.serialize().widgets_values ?? [],
  }))
  return { nodes, exported: (await window.app.graphToPrompt()).output }
}"""

# Of every node that is not the host's own the front end asks the registry whose it is, which the host's server forbids.
ASKS_THE_REGISTRY = re.compile(r"^Connecting to '/comfy-nodes/\w+/node' violates")


@pytest.fixture(scope="module")
def errors() -> list[str]:
    """What the page has reported as an error so far."""
    return []


@pytest.fixture(scope="module")
def page(host: ComfyServer, chromium: str, errors: list[str]) -> Iterator[Any]:
    """The host's front end, ready, with our example images in the server's input folder."""
    with front_end(host, chromium, dev.ROOT / "demo/images", errors) as page:
        yield page


@pytest.fixture(scope="module")
def errors_of_the_host(host_folder: Path, page: Any, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What a page reports as errors without any pack, with the host's own default workflow."""
    base, found = tmp_path_factory.mktemp("bare"), []
    arguments = [*dev.isolated(base), "--cpu", "--disable-all-custom-nodes"]
    with ComfyServer(Path(sys.executable), host_folder, *arguments, log=base / "server.log") as bare:
        editor = open_editor(page.context.browser, bare, dev.ROOT / "demo/images", found)
        editor.evaluate("async () => await window.app.loadGraphData()")
        editor.wait_for_timeout(500)
        known = editor.evaluate("() => Object.keys(window.LiteGraph.registered_node_types)")
        editor.close()
    assert not [node for node in known if node.startswith("I2V")]
    return set(found)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_shown_whole_and_exported_as_its_api_twin(
    page: Any, errors: list[str], errors_of_the_host: set[str], path: Path, tmp_path: Path
) -> None:
    """No node missing, every widget with its value, no error that the host alone has not, and the same graph."""
    answered = answer(page, LOAD, json.loads(path.read_text(encoding="utf-8")))
    page.screenshot(path=tmp_path / f"{path.stem}.png")
    assert page.locator(".p-toast-message").all_inner_texts() == [], "the front end complains about the file"
    shown = answered["nodes"]
    assert [node["type"] for node in shown if not node["known"] or node["errors"]] == []
    written = {node["id"]: node for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]}
    assert {node["id"] for node in shown} == set(written)
    for node in shown:
        assert node["values"] == written[node["id"]].get("widgets_values", []), node["type"]

    exported = answered["exported"]
    twin = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
    assert {key: node["class_type"] for key, node in exported.items()} == {
        key: node["class_type"] for key, node in twin.items()
    }
    for key, node in twin.items():
        assert exported[key]["inputs"] == node["inputs"], node["class_type"]

    page.wait_for_timeout(200)
    assert {said for said in errors if not ASKS_THE_REGISTRY.search(said)} <= errors_of_the_host


def test_a_page_that_does_not_answer_is_loaded_anew(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    silent_once = """async () => {
      if (sessionStorage.asked) return 'here'
      sessionStorage.asked = 'once'
      await new Promise(() => {})
    }"""
    assert answer(page, silent_once, seconds=1) == "here"
    assert "loaded anew" in capsys.readouterr().err


def test_every_workflow_has_pictures_an_api_twin_a_note_and_a_line_in_the_index() -> None:
    index = (WORKFLOWS[0].parent / "README.md").read_text(encoding="utf-8")
    shown = (dev.ROOT / "docs/workflows.md").read_text(encoding="utf-8")
    for path in WORKFLOWS:
        notes = [node for node in json.loads(path.read_text("utf-8"))["nodes"] if node["type"] == "MarkdownNote"]
        assert notes, "a note on the canvas says what to change"
        assert f"(workflows/{path.stem}.jpg)" in shown, "run `python tools/pictures.py workflows`"
        assert (dev.ROOT / f"docs/workflows/{path.stem}.jpg").stat().st_size <= 60_000
        assert f"`{path.stem}`" in index
        assert path.with_suffix(".jpg").is_file(), "the template browser shows a .jpg of the same name"
        assert (path.parent / "api" / path.name).is_file()
