"""The shipped workflow over HTTP: steps are left out, and the video is nearly the one that takes all of them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import dev
from i2v_core.metrics.pixels import psnr
from i2v_core.video import frames_to_clip, read_video
from tools.comfy_server import ComfyServer, failure

NAME = "animate_faster"
STEPS = 20


@pytest.fixture
def graph(host: ComfyServer) -> dict[str, Any]:
    graph = json.loads((dev.ROOT / f"workflows/api/{NAME}.json").read_text())
    return dict(dev.edit_graph(graph, image=host.upload(dev.ROOT / "demo/images/chelsea.jpg"), frames=6, steps=STEPS))


def frames_of(host: ComfyServer, graph: dict[str, Any], bound: float, folder: Path) -> Tensor:
    """The frames `t c h w` of the video with this bound."""
    graph["7"]["inputs"]["bound"] = bound
    graph["10"]["inputs"]["filename_prefix"] = f"faster/{bound}"
    entry = host.wait(host.submit(graph), seconds=300)
    assert failure(entry) is None
    path = folder / f"{bound}.mp4"
    path.write_bytes(host.view(entry["outputs"]["10"]["images"][0]))
    return frames_to_clip(read_video(path).frames).movedim(1, 0)


def left_out(host: ComfyServer) -> list[tuple[int, int]]:
    """Steps without deep blocks and all steps, of every run that the server's log tells of."""
    assert host.log is not None
    told = re.findall(r"step caching left out the deep blocks in (\d+) of (\d+)", host.log.read_text(encoding="utf-8"))
    return [(int(some), int(total)) for some, total in told]


def test_few_whole_steps_make_nearly_the_same_video(host: ComfyServer, graph: dict[str, Any], tmp_path: Path) -> None:
    shipped = graph["7"]["inputs"]["bound"]
    before = len(left_out(host))
    exact = frames_of(host, graph, 0.0, tmp_path)
    assert len(left_out(host)) == before, "a bound of 0 is the model without a cache"
    faster = frames_of(host, graph, shipped, tmp_path)
    ((some, total),) = left_out(host)[before:]
    assert total == STEPS and some >= STEPS // 2
    assert psnr(faster, exact).min() > 30
