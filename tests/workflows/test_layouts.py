"""Every public checkpoint in every layout runs through its workflow on the real server, whatever its file is called.

The picture is encoded once, with the towers of one full file; the network comes from the file under test.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

import dev
from tests.core.weights.small_files import LAYOUTS, VARIANTS, Layout, write_small
from tools.comfy_server import ComfyServer, failure

TOWERS, FRAMES = "some towers.ckpt", 3
BETWEEN = ("dynamicrafter_512_interp", "tooncrafter")
CASES: list[tuple[str, Layout]] = [(variant, "pruned") for variant in VARIANTS if variant != "dynamicrafter_512"]
CASES += [("dynamicrafter_512", layout) for layout in LAYOUTS]


@pytest.fixture(scope="module")
def checkpoints(host: ComfyServer) -> Path:
    """The server's folder of checkpoints, with the file that gives the towers."""
    assert host.log is not None
    folder = host.log.parent / "models/checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    write_small(folder, "dynamicrafter_512", "full", name=TOWERS)
    for image in (dev.ROOT / "demo/images").glob("*.jpg"):
        host.upload(image)
    return folder


def graph(variant: str, file: str) -> dict[str, Any]:
    """The variant's workflow in small, with towers, projection and VAE from the one file and the model from another."""
    name = "interpolate_two_images" if variant in BETWEEN else "animate_dynamicrafter_512"
    shipped = json.loads((dev.ROOT / f"workflows/api/{name}.json").read_text())
    edited = dev.edit_graph(shipped, width=64, height=32, frames=FRAMES, steps=2)
    edited["1"]["inputs"] = {"checkpoint": TOWERS, "preset": "auto"}
    preset = "dynamicrafter_512_interp" if variant == "dynamicrafter_512_interp" else "auto"
    edited["20"] = {"class_type": "I2VLoadCheckpoint", "inputs": {"checkpoint": file, "preset": preset}}
    for node in edited.values():
        if "model" in node["inputs"] and node["inputs"]["model"] == ["1", 0]:
            node["inputs"]["model"] = ["20", 0]
    if variant == "videocrafter1_i2v_512":
        # Its frames share their tokens; those of its own projection would take another pass of the image tower.
        edited["21"] = {"class_type": "I2VShareImageTokens", "inputs": {"i2v_image": ["4", 0]}}
        edited["8"]["inputs"]["i2v_image"] = ["21", 0]
    edited["17"] = {"class_type": "SaveImage", "inputs": {"images": ["15", 0], "filename_prefix": "layouts/frame"}}
    return edited


def run(host: ComfyServer, variant: str, file: str) -> numpy.ndarray:
    """Frames `t h w 3` of the workflow with this file."""
    entry = host.run(graph(variant, file), seconds=900)
    assert failure(entry) is None
    items = entry["outputs"]["17"]["images"]
    return numpy.stack([numpy.array(Image.open(io.BytesIO(host.view(item)))) for item in items])


@pytest.mark.parametrize(("variant", "layout"), CASES)
def test_the_file_runs_under_any_name(host: ComfyServer, checkpoints: Path, variant: str, layout: Layout) -> None:
    path = write_small(checkpoints, variant, layout, name=f"videocrafter2 {layout} {len(variant)}.ckpt")
    frames = run(host, variant, path.name)
    path.unlink()
    assert frames.shape == (FRAMES, 32, 64, 3)
    assert frames.std() > 1, "a flat picture is what NaN becomes"


def test_a_shuffled_name_changes_nothing(host: ComfyServer, checkpoints: Path) -> None:
    whole = write_small(checkpoints, "dynamicrafter_1024", "pruned")
    expected = run(host, "dynamicrafter_1024", whole.name)
    shuffled = whole.rename(checkpoints / "dynamicrafter_256 modelscope.pt")
    given = run(host, "dynamicrafter_1024", shuffled.name)
    shuffled.unlink()
    assert (given == expected).all()
