"""The shipped workflow over HTTP: the photograph starts the video, and the file restores the graph."""

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

import dev
from i2v_core.metrics.pixels import psnr
from i2v_core.video import fit_image, frames_to_clip, read_video, to_model_range
from tools.comfy_server import ComfyServer, failure

NAME = "animate_image"
PHOTOGRAPH = dev.ROOT / "demo/images/chelsea.jpg"


@pytest.fixture(scope="module")
def graph(host: ComfyServer) -> dict[str, Any]:
    graph = json.loads((dev.ROOT / f"workflows/api/{NAME}.json").read_text())
    return dev.edit_graph(graph, image=host.upload(PHOTOGRAPH), frames=6, steps=6)


@pytest.fixture(scope="module")
def video(host: ComfyServer, graph: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as a client gets it over HTTP."""
    workflow = json.loads((dev.ROOT / f"workflows/{NAME}.json").read_text())
    entry = host.wait(host.submit(graph, workflow), seconds=300)
    assert failure(entry) is None
    (item,) = [item for result in entry["outputs"].values() for item in result.get("images", [])]
    assert item["format"] == "video/mp4"
    path = tmp_path_factory.mktemp("video") / item["filename"]
    path.write_bytes(host.view(item))
    return path


def test_the_video_has_the_frames_asked_for(video: Path) -> None:
    clip = read_video(video)
    assert clip.frames.shape == (6, 64, 64, 3)
    assert clip.fps == 8


def test_the_first_frame_resembles_the_photograph(video: Path) -> None:
    clip = frames_to_clip(read_video(video).frames)
    with Image.open(PHOTOGRAPH) as image:
        picture = torch.from_numpy(np.array(image.convert("RGB")))
    given = to_model_range(fit_image(picture, 64, 64)).permute(2, 0, 1)
    assert psnr(clip[:, 0], given) > 26


def test_the_file_carries_prompt_and_workflow(video: Path, graph: dict[str, Any]) -> None:
    with av.open(io.BytesIO(video.read_bytes())) as container:
        metadata = container.metadata
    told = json.loads(metadata["prompt"])  # the host adds what it found out while running
    assert {key: node["inputs"] for key, node in told.items()} == {key: node["inputs"] for key, node in graph.items()}
    assert json.loads(metadata["workflow"])["nodes"]


def test_the_same_seed_makes_the_same_video_in_the_custom_sampler(host: ComfyServer, graph: dict[str, Any]) -> None:
    """KSampler and SamplerCustomAdvanced are two ways to say the same."""
    save = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "frame"}}
    stock = {**graph, "9": save}
    old = graph["7"]["inputs"]
    parts = {
        "7": ("SamplerCustomAdvanced", {"noise": ["20", 0], "guider": ["21", 0], "sampler": ["22", 0],
                                        "sigmas": ["23", 0], "latent_image": ["6", 2]}),
        "20": ("RandomNoise", {"noise_seed": old["seed"]}),
        "21": ("CFGGuider", {"model": ["1", 0], "positive": ["6", 0], "negative": ["6", 1], "cfg": old["cfg"]}),
        "22": ("KSamplerSelect", {"sampler_name": old["sampler_name"]}),
        "23": ("BasicScheduler", {"model": ["1", 0], "scheduler": old["scheduler"], "steps": old["steps"],
                                  "denoise": 1.0}),
    }  # fmt: skip
    custom = stock | {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in parts.items()}

    def last_frame(graph: dict[str, Any]) -> np.ndarray:
        items = host.run(graph, seconds=300)["outputs"]["9"]["images"]
        assert len(items) == 6
        return np.array(Image.open(io.BytesIO(host.view(items[-1]))))

    np.testing.assert_array_equal(last_frame(stock), last_frame(custom))
