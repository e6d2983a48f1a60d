"""A file of Combine Video, dropped on the canvas of the real front end, brings its workflow back."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import dev
from i2v_core.video import FORMATS, Encoding, write_video
from tools.comfy_server import ComfyServer
from tools.front_end import front_end

pytest.importorskip("playwright.sync_api")

WORKFLOW = dev.ROOT / "workflows/animate_image.json"
# The front end reads the texts of neither Matroska nor GIF; the help page says so.
RESTORED = [name for name in FORMATS if name not in ("mkv ffv1", "gif")]
DROP = """async ([name, type, base64]) => {
  window.app.graph.clear()
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))
  const data = new DataTransfer()
  data.items.add(new File([bytes], name, { type }))
  document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }))
}"""
TYPES = "() => window.app.graph.nodes.map((node) => node.type).sort()"


@pytest.fixture(scope="module")
def page(host: ComfyServer, chromium: str) -> Iterator[Any]:
    with front_end(host, chromium, dev.ROOT / "demo/images") as page:
        yield page


@pytest.mark.parametrize("name", RESTORED)
def test_dropping_the_file_restores_the_graph(page: Any, tmp_path: Path, name: str) -> None:
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    prompt = json.loads((WORKFLOW.parent / "api" / WORKFLOW.name).read_text(encoding="utf-8"))
    texts = {"workflow": json.dumps(workflow), "prompt": json.dumps(prompt)}
    how = FORMATS[name]
    frames = torch.rand(3, 64, 96, 3, generator=torch.Generator().manual_seed(0))
    shown = write_video(tmp_path / f"clip{how.suffix}", frames, 8, Encoding(name), metadata=texts).shown
    page.evaluate(DROP, [shown.name, how.mime, base64.b64encode(shown.read_bytes()).decode()])
    page.wait_for_function(f"() => window.app.graph.nodes.length === {len(workflow['nodes'])}", timeout=30_000)
    assert page.evaluate(TYPES) == sorted(node["type"] for node in workflow["nodes"])
