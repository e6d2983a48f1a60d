"""The workflow that measures two clips, over HTTP: numbers, curves and the compared video arrive."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dev
from i2v_core.video import read_video
from tools.comfy_server import ComfyServer, failure

NAME = "measure_consistency"


@pytest.fixture(scope="module")
def outputs(host: ComfyServer) -> dict[str, Any]:
    graph = json.loads((dev.ROOT / f"workflows/api/{NAME}.json").read_text())
    graph = dev.edit_graph(graph, image=host.upload(dev.ROOT / "demo/images/chelsea.jpg"), frames=6, steps=4)
    entry = host.wait(host.submit(graph), seconds=300)
    assert failure(entry) is None
    return dict(entry["outputs"])


def test_the_numbers_are_shown(outputs: dict[str, Any]) -> None:
    (text,) = outputs["12"]["text"]
    report = json.loads(text)
    assert report["values"]["first_frame_psnr"] > 24
    assert 0 < report["values"]["motion_amount"] < 0.2
    assert len(report["values"]["image_psnr"]) == 6
    assert report["values"]["motion_follow"] in (0, 1)
    assert "needs clip_vision" in report["not measured"]["isim_average"]


def test_the_curves_are_drawn(outputs: dict[str, Any], host: ComfyServer) -> None:
    (item,) = outputs["14"]["images"]
    plot = np.array(Image.open(io.BytesIO(host.view(item))))
    assert plot.shape == (320, 640, 3)
    for color in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert (np.abs(plot.astype(int) - color).sum(-1) < 30).sum() > 200


def test_the_compared_video_has_both_clips_above_the_curves(
    outputs: dict[str, Any], host: ComfyServer, tmp_path: Path
) -> None:
    (item,) = outputs["15"]["images"]
    path = tmp_path / item["filename"]
    path.write_bytes(host.view(item))
    assert read_video(path).frames.shape == (6, 320 + 320, 640, 3)
