"""Shipped workflows of the public checkpoints in small, which share one file's towers.

The real-size CLIP towers take ten seconds for a picture. Graphs that take towers, projection and the VAE that encodes
from the same file, with the same picture at the same size, share what the server has encoded for the first of them.
"""

import json
from pathlib import Path
from typing import Any

import dev
from tests.core.weights.small_files import write_small
from tools.comfy_server import ComfyServer

TOWERS, TOWERS_NODE = "dynamicrafter_512.ckpt", "50"
PICTURE, WIDTH, HEIGHT = "chelsea.jpg", 96, 64
# What the loader's outputs are plugged into.
PLUGS = ({"model"}, {"clip"}, {"vae"}, {"clip_vision"}, {"image_projection"})


def shipped(name: str) -> dict[str, Any]:
    return dict(json.loads((dev.ROOT / f"workflows/api/{name}.json").read_text()))


def by_kind(graph: dict[str, Any], kind: str) -> dict[str, Any]:
    """The inputs of the first node of a class."""
    return next(node["inputs"] for node in graph.values() if node["class_type"] == kind)


def smaller(name: str, frames: int) -> dict[str, Any]:
    """The workflow with a small picture, few frames and two steps."""
    return dev.edit_graph(shipped(name), width=WIDTH, height=HEIGHT, frames=frames, steps=2)


def plugs(graph: dict[str, Any]) -> list[set[str]]:
    """The names of the inputs that each output of the loader, node 1, goes to."""
    found: list[set[str]] = [set() for _ in PLUGS]
    for node in graph.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == "1":
                found[value[1]].add(name)
    return found


def with_towers(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph with all but model and decoder from the file of the towers, and the picture that they have seen."""
    loader = {"class_type": "I2VLoadCheckpoint", "inputs": {"checkpoint": TOWERS, "preset": "auto"}}
    for node in graph.values():
        for name, value in node["inputs"].items():
            decodes = name == "vae" and node["class_type"] != "I2VEncodeImage"
            if isinstance(value, list) and value[0] == "1" and name != "model" and not decodes:
                node["inputs"][name] = [TOWERS_NODE, value[1]]
    by_kind(graph, "LoadImage")["image"] = PICTURE
    return {**graph, TOWERS_NODE: loader}


def write_towers(host: ComfyServer) -> Path:
    """The server's folder of checkpoints, with the file that gives the towers; the pictures are in its input folder."""
    assert host.log is not None
    folder = host.log.parent / "models/checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / TOWERS).exists():
        write_small(folder, "dynamicrafter_512", "full", name=TOWERS)
        for image in (dev.ROOT / "demo/images").glob("*.jpg"):
            host.upload(image)
    return folder
