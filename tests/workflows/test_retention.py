"""The shipped workflows of image retention and dual guidance over HTTP."""

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dev
from i2v_core.metrics.pixels import psnr
from i2v_core.video import fit_image, to_model_range
from tools.comfy_server import ComfyServer, ServerError

PHOTOGRAPH = dev.ROOT / "demo/images/chelsea.jpg"
STEPS = 4


def workflow(host: ComfyServer, name: str, *, decoded: str, **scales: Any) -> dict[str, Any]:
    """The graph of a workflow with few steps and its frames as pictures."""
    graph = json.loads((dev.ROOT / f"workflows/api/{name}.json").read_text())
    graph = dev.edit_graph(graph, image=host.upload(PHOTOGRAPH), steps=STEPS)
    for node in graph.values():
        if "text_scale" in node["inputs"]:
            node["inputs"] |= scales
    (writer,) = [key for key, node in graph.items() if node["class_type"] == "I2VCombineVideo"]
    save = {"class_type": "SaveImage", "inputs": {"images": [decoded, 0], "filename_prefix": "frame"}}
    return {**graph, writer: save}


def frames(host: ComfyServer, graph: dict[str, Any]) -> np.ndarray:
    (output,) = host.run(graph, seconds=300)["outputs"].values()
    return np.stack([np.array(Image.open(io.BytesIO(host.view(item)))) for item in output["images"]])


@pytest.fixture(scope="module")
def sampled(host: ComfyServer) -> np.ndarray:
    return frames(host, workflow(host, "animate_retention", decoded="9", order="text_first"))


def test_the_first_frame_resembles_the_photograph(sampled: np.ndarray) -> None:
    assert sampled.shape == (8, 64, 64, 3)
    with Image.open(PHOTOGRAPH) as image:
        picture = torch.from_numpy(np.array(image.convert("RGB")))
    given = to_model_range(fit_image(picture, 64, 64)).permute(2, 0, 1)
    first = to_model_range(torch.from_numpy(sampled[0])).permute(2, 0, 1)
    assert psnr(first, given) > 20


def test_the_sampler_and_the_guider_in_a_graph_of_five_make_the_same_video(
    host: ComfyServer, sampled: np.ndarray
) -> None:
    graph = workflow(host, "dual_guidance_any_model", decoded="16", order="text_first")
    np.testing.assert_array_equal(frames(host, graph), sampled)


def test_without_image_scale_the_picture_is_not_kept(host: ComfyServer, sampled: np.ndarray) -> None:
    graph = workflow(host, "animate_retention", decoded="9", order="text_first", text_scale=1.0, image_scale=0.0)
    difference = frames(host, graph)[0].astype(float) - sampled[0].astype(float)
    assert np.sqrt((difference**2).mean()) > 40


def test_a_scale_that_is_no_number_is_refused_with_a_sentence(host: ComfyServer) -> None:
    graph = workflow(host, "animate_retention", decoded="9", text_scale=float("nan"))
    with pytest.raises(ServerError, match=r"text_scale expects a number from 0\.0 to 100\.0, got nan"):
        host.run(graph, seconds=300)
