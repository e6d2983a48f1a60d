"""The shipped DynamiCrafter workflows over HTTP, on seeded small files of the real layout and names."""

import json
from pathlib import Path

import pytest

import dev
from i2v_core.video import read_video
from tests.core.weights.small_files import write_small
from tests.workflows.public import (
    HEIGHT,
    PLUGS,
    TOWERS,
    WIDTH,
    by_kind,
    plugs,
    shipped,
    smaller,
    with_towers,
    write_towers,
)
from tools.comfy_server import ComfyServer, failure

# The first runs as shipped to the last link; the others have its towers and what these made of its picture.
WORKFLOWS = {
    "animate_dynamicrafter_512": "dynamicrafter_512",
    "animate_dynamicrafter_256": "dynamicrafter_256",
    "animate_dynamicrafter_1024": "dynamicrafter_1024",
    "animate_dynamicrafter_longer": "dynamicrafter_512",
    "interpolate_two_images": "dynamicrafter_512_interp",
    "loop": "dynamicrafter_512_interp",
    "interpolate_tooncrafter": "tooncrafter",
}
FRAMES = 4


@pytest.fixture(scope="module", autouse=True)
def files(host: ComfyServer) -> None:
    """The pictures and checkpoints that the workflows name, in the server's folders."""
    folder = write_towers(host)
    for name, variant in WORKFLOWS.items():
        file = by_kind(shipped(name), "I2VLoadCheckpoint")["checkpoint"]
        if file != TOWERS:
            write_small(folder, variant, "pruned", name=file)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_workflow_runs_as_shipped(host: ComfyServer, tmp_path: Path, name: str) -> None:
    workflow = json.loads((dev.ROOT / f"workflows/{name}.json").read_text())
    graph = smaller(name, FRAMES)
    assert plugs(graph) == list(PLUGS)
    if name == "loop":
        graph = dev.edit_graph(graph, length=FRAMES - 1)
    if name != "animate_dynamicrafter_512":
        graph = with_towers(graph)
    entry = host.wait(host.submit(graph, workflow), seconds=300)
    assert failure(entry) is None
    (item,) = [item for result in entry["outputs"].values() for item in result.get("images", [])]
    path = tmp_path / item["filename"]
    path.write_bytes(host.view(item))
    frames = read_video(path).frames
    assert frames.shape == (FRAMES - 1 if name == "loop" else FRAMES, HEIGHT, WIDTH, 3)
    assert frames.float().std() > 1, "a flat picture is what NaN becomes"
