"""Every public checkpoint in every layout runs through its workflow on the real server, whatever its file is called.

The picture is encoded once, with the towers of one full file; the network comes from the file under test.
"""

import io
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from tests.core.weights.small_files import LAYOUTS, VARIANTS, Layout, write_small
from tests.workflows.public import HEIGHT, WIDTH, smaller, with_towers, write_towers
from tools.comfy_server import ComfyServer, failure

FRAMES = 3
BETWEEN = ("dynamicrafter_512_interp", "tooncrafter")
CASES: list[tuple[str, Layout]] = [(variant, "pruned") for variant in VARIANTS if variant != "dynamicrafter_512"]
CASES += [("dynamicrafter_512", layout) for layout in LAYOUTS]


@pytest.fixture(scope="module")
def checkpoints(host: ComfyServer) -> Path:
    """The server's folder of checkpoints, with the file that gives the towers."""
    return write_towers(host)


def graph(variant: str, file: str) -> dict[str, Any]:
    """The variant's workflow in small, with towers, projection and VAE from the one file and the model from another."""
    edited = with_towers(
        smaller("interpolate_two_images" if variant in BETWEEN else "animate_dynamicrafter_512", FRAMES)
    )
    preset = "dynamicrafter_512_interp" if variant == "dynamicrafter_512_interp" else "auto"
    edited["1"]["inputs"] = {"checkpoint": file, "preset": preset}
    edited["15"]["inputs"]["vae"] = edited["4"]["inputs"]["vae"]
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
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert frames.std() > 1, "a flat picture is what NaN becomes"


def test_a_shuffled_name_changes_nothing(host: ComfyServer, checkpoints: Path) -> None:
    whole = write_small(checkpoints, "dynamicrafter_1024", "pruned")
    expected = run(host, "dynamicrafter_1024", whole.name)
    shuffled = whole.rename(checkpoints / "dynamicrafter_256 modelscope.pt")
    given = run(host, "dynamicrafter_1024", shuffled.name)
    shuffled.unlink()
    assert (given == expected).all()
