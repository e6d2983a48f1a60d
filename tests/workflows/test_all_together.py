"""The shipped workflows of the image projection, alone and with all other methods, over HTTP on the demo's files."""

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
from tools.comfy_server import ComfyServer

STEPS = 4
Graph = dict[str, dict[str, Any]]


def workflow(host: ComfyServer, name: str) -> Graph:
    """The graph of a workflow with few steps and its frames as pictures."""
    graph = json.loads((dev.ROOT / f"workflows/api/{name}.json").read_text())
    graph = dev.edit_graph(graph, image=host.upload(dev.ROOT / "demo/images/chelsea.jpg"), steps=STEPS)
    (writer,) = [key for key, node in graph.items() if node["class_type"] == "I2VCombineVideo"]
    images = graph[writer]["inputs"]["images"]
    save = {"class_type": "SaveImage", "inputs": {"images": images, "filename_prefix": "frame"}}
    return {**graph, writer: save}


def frames(host: ComfyServer, graph: Graph) -> np.ndarray:
    (output,) = host.run(graph, seconds=300)["outputs"].values()
    return np.stack([np.array(Image.open(io.BytesIO(host.view(item)))) for item in output["images"]])


def first_frame_psnr(sampled: np.ndarray) -> float:
    with Image.open(dev.ROOT / "demo/images/chelsea.jpg") as image:
        picture = torch.from_numpy(np.array(image.convert("RGB")))
    given = to_model_range(fit_image(picture, 64, 64)).permute(2, 0, 1)
    return float(psnr(to_model_range(torch.from_numpy(sampled[0])).permute(2, 0, 1), given))


@pytest.mark.parametrize("name", ["animate_image_projection", "all_together"])
def test_the_first_frame_is_the_photograph_and_the_others_move(host: ComfyServer, name: str) -> None:
    sampled = frames(host, workflow(host, name))
    assert sampled.shape == (8, 64, 64, 3)
    assert first_frame_psnr(sampled) > 20
    assert np.abs(sampled[-1].astype(float) - sampled[0]).mean() > 2


def test_the_apply_nodes_may_stand_the_other_way_round(host: ComfyServer) -> None:
    graph = workflow(host, "all_together")
    # What another test has made already, the host would not make, nor name, again.
    (sampler,) = [node["inputs"] for node in graph.values() if node["class_type"] == "KSampler"]
    sampler["seed"] = 1
    sampled = frames(host, graph)
    by_kind = {node["class_type"]: key for key, node in graph.items()}
    kinds = ("I2VApplyTRIP", "I2VApplyLookBack", "I2VApplyImageRetention", "I2VApplyImageProjection")
    for before, kind in zip((by_kind["I2VLoadCheckpoint"], *(by_kind[kind] for kind in kinds)), kinds, strict=False):
        graph[by_kind[kind]]["inputs"]["model"] = [before, 0]
    graph[by_kind["KSampler"]]["inputs"]["model"] = [by_kind[kinds[-1]], 0]
    # Encode Image for I2V needs image_projection, and two of the methods need its picture: the projection comes last on
    # a model of its own.
    other = {**graph[by_kind["I2VApplyImageProjection"]], "inputs": dict(graph[by_kind[kinds[-1]]]["inputs"])}
    other["inputs"]["model"] = [by_kind["I2VLoadCheckpoint"], 0]
    graph["99"] = other
    graph[by_kind["I2VEncodeImage"]]["inputs"]["image_projection"] = ["99", 1]
    assert np.abs(frames(host, graph).astype(float) - sampled).max() <= 1
