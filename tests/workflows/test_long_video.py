"""The shipped long video over HTTP: pieces make the whole, and the photograph starts it."""

import io
import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dev
from i2v_core.metrics.pixels import psnr
from i2v_core.video import fit_image, to_model_range
from tools.comfy_server import ComfyServer

PHOTOGRAPH = dev.ROOT / "demo/images/coffee.jpg"


@pytest.fixture(scope="module")
def graph(host: ComfyServer) -> dict[str, Any]:
    """Shorter than the shipped one, its frames saved as pictures too."""
    shipped = json.loads((dev.ROOT / "workflows/api/long_video_lookback.json").read_text())
    save = {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": "long"}}
    return dev.edit_graph(shipped, image=host.upload(PHOTOGRAPH), frames=10, steps=4) | {"20": save}


def frames(host: ComfyServer, graph: dict[str, Any], frames_at_once: int) -> np.ndarray:
    """Pixels `t h w c`, 8 bits."""
    graph = json.loads(json.dumps(graph))
    graph["8"]["inputs"]["frames_at_once"] = frames_at_once
    items = host.run(graph, seconds=300)["outputs"]["20"]["images"]
    return np.stack([np.array(Image.open(io.BytesIO(host.view(item)))) for item in items])


def test_a_long_video_in_pieces_is_the_one_made_at_once(host: ComfyServer, graph: dict[str, Any]) -> None:
    pieces, whole = frames(host, graph, 4), frames(host, graph, 0)
    assert pieces.shape == whole.shape == (10, 64, 64, 3)
    assert np.abs(pieces.astype(int) - whole).max() <= 1  # 8 bits round
    steps = itertools.pairwise(pieces.astype(int))
    assert all(np.abs(after - before).mean() > 0.5 for before, after in steps)

    with Image.open(PHOTOGRAPH) as image:
        picture = to_model_range(fit_image(torch.from_numpy(np.array(image.convert("RGB"))), 64, 64))
    first = torch.from_numpy(pieces[0]).float() / 127.5 - 1
    assert psnr(first.permute(2, 0, 1), picture.permute(2, 0, 1)) > 26
    assert host.log is not None
    assert "look-back carries" in host.log.read_text(encoding="utf-8", errors="replace")
