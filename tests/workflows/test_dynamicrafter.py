"""The shipped DynamiCrafter workflows over HTTP, on seeded small files of the real layout and names."""

import json
from pathlib import Path
from typing import Any

import pytest

import dev
from i2v_core.video import read_video
from tests.core.weights.small_files import write_small
from tools.comfy_server import ComfyServer, failure

WORKFLOWS = {
    "animate_dynamicrafter_256": "dynamicrafter_256",
    "animate_dynamicrafter_512": "dynamicrafter_512",
    "animate_dynamicrafter_1024": "dynamicrafter_1024",
    "animate_dynamicrafter_longer": "dynamicrafter_512",
    "interpolate_two_images": "dynamicrafter_512_interp",
    "loop": "dynamicrafter_512_interp",
    "interpolate_tooncrafter": "tooncrafter",
}
FRAMES = 4


def shipped(name: str) -> dict[str, Any]:
    return dict(json.loads((dev.ROOT / f"workflows/api/{name}.json").read_text()))


def by_kind(graph: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(node["inputs"] for node in graph.values() if node["class_type"] == kind)


def smaller(name: str, **changes: Any) -> dict[str, Any]:
    graph = dev.edit_graph(shipped(name), width=96, height=64, frames=FRAMES, steps=2, **changes)
    return dev.edit_graph(graph, length=FRAMES - 1) if name == "loop" else graph


@pytest.fixture(scope="module", autouse=True)
def files(host: ComfyServer) -> None:
    """The pictures and checkpoints that the workflows name, in the server's folders."""
    assert host.log is not None
    folder = host.log.parent / "models/checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    for name, variant in WORKFLOWS.items():
        file = by_kind(shipped(name), "I2VLoadCheckpoint")["checkpoint"]
        write_small(folder, variant, "full", name=file)
    for image in (dev.ROOT / "demo/images").glob("*.jpg"):
        host.upload(image)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_workflow_runs_as_shipped(host: ComfyServer, tmp_path: Path, name: str) -> None:
    workflow = json.loads((dev.ROOT / f"workflows/{name}.json").read_text())
    entry = host.wait(host.submit(smaller(name), workflow), seconds=300)
    assert failure(entry) is None
    (item,) = [item for result in entry["outputs"].values() for item in result.get("images", [])]
    path = tmp_path / item["filename"]
    path.write_bytes(host.view(item))
    frames = read_video(path).frames
    assert frames.shape == (FRAMES - 1 if name == "loop" else FRAMES, 64, 96, 3)
    assert frames.float().std() > 1, "a flat picture is what NaN becomes"
