"""Stories over HTTP: the shipped one of two parts, and the same graph drawn on to four."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dev
from i2v_core.metrics.camera_motion import measure_camera_motion
from i2v_core.metrics.color_drift import color_drift
from i2v_core.metrics.frame_steps import join_ratios
from i2v_core.video import frames_to_clip, read_video
from tools.comfy_server import ComfyServer, failure

Graph = dict[str, Any]
NAME = "story_in_two_parts"
FRAMES = 8


def with_part(graph: Graph, number: int, prompt: str) -> Graph:
    """Draw the graph on: a copy of what makes part 2, behind the last clip, and one more input of Join Clips."""
    copied = {key: str(100 * number + int(key)) for key in ("9", "10", "11", "12", "13", "14")}
    before = graph["15"]["inputs"][f"clip_{number - 1}"]
    nodes = {}
    for old, new in copied.items():
        node = json.loads(json.dumps(graph[old]))
        links = {name: value for name, value in node["inputs"].items() if isinstance(value, list)}
        node["inputs"] |= {name: [copied.get(source, source), slot] for name, (source, slot) in links.items()}
        nodes[new] = node
    nodes[copied["9"]]["inputs"]["images"] = before
    nodes[copied["11"]]["inputs"]["text"] = prompt
    nodes[copied["13"]]["inputs"]["seed"] = number - 1
    join = json.loads(json.dumps(graph["15"]))
    join["inputs"] |= {f"clip_{number - 1}": [copied["9"], 1], f"clip_{number}": [copied["14"], 0]}
    return {**graph, **nodes, "15": join}


@pytest.fixture(scope="module")
def graph(host: ComfyServer) -> Graph:
    graph = json.loads((dev.ROOT / f"workflows/api/{NAME}.json").read_text())
    return dev.edit_graph(graph, image=host.upload(dev.ROOT / "demo/images/coffee.jpg"), steps=6)


@pytest.fixture(scope="module")
def told(host: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Graph], torch.Tensor]:
    """Run a graph and decode its file to pixels `c t h w`."""

    def run(graph: Graph) -> torch.Tensor:
        entry = host.wait(host.submit(graph), seconds=300)
        assert failure(entry) is None
        (item,) = entry["outputs"]["16"]["images"]
        path = Path(tmp_path_factory.mktemp("story"), item["filename"])
        path.write_bytes(host.view(item))
        return frames_to_clip(read_video(path).frames)

    return run


def test_two_parts_follow_their_prompts_and_share_one_frame(
    told: Callable[[Graph], torch.Tensor], graph: Graph
) -> None:
    clip = told(graph)
    assert clip.shape == (3, 2 * FRAMES - 1, 64, 64)
    assert measure_camera_motion(clip[:, :FRAMES]).motion == "up"
    assert measure_camera_motion(clip[:, FRAMES - 1 :]).motion == "left"
    assert color_drift(clip[:, FRAMES - 1 : FRAMES], clip[:, 0]) < 3, "the shared frame has the first one's colors"


def test_four_parts_follow_their_prompts_without_a_jump(told: Callable[[Graph], torch.Tensor], graph: Graph) -> None:
    clip = told(with_part(with_part(graph, 3, "zoom out"), 4, "the camera pans right"))
    joins = [number * (FRAMES - 1) for number in (1, 2, 3)]
    assert clip.shape[1] == 4 * FRAMES - 3
    parts = [clip[:, start : start + FRAMES] for start in (0, *joins)]
    assert [measure_camera_motion(part).motion for part in parts] == ["up", "left", "out", "right"]
    assert (join_ratios(clip, joins) < 1.25).all()
