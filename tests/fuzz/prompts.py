"""Seeded prompts that are nearly right: our nodes between good sources, with one or two inputs that nobody chooses."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tools.comfy_server import Graph

MODEL, IMAGE_MODEL = "i2v_demo.safetensors", "i2v_demo_image.safetensors"
ADAPTERS = {"I2VApplyTRIP": "temporal", "I2VApplyImageRetention": "retention", "I2VApplyImageProjection": "projection"}
NUMBERS = (-1, 0, 1, 0.5, -1e9, 1e30, 2**63, 10**30, float("nan"), float("inf"), -float("inf"))
TEXTS = (
    "", " ", "../x", "/etc/passwd", "C:\\x", "\\\\server\\share\\x", "CON", "nul.txt", "a\0b", "a\ud800b", "x" * 300,
    "~/x", "x.", "%width%/%date:yyyy%", "I2V/" * 400, "🐈", "a\nb", "{}", "[train]", "-1e9",
)  # fmt: skip
LITERALS = (
    None,
    True,
    3,
    0.5,
    "text",
    "",
    {},
    {"samples": 1},
    {"__value__": [1, 2]},
    {"__value__": None},
    [],
    ["load"],
)
# What stops a training before its process begins; with good inputs every prompt would train.
TRAININGS: tuple[dict[str, Any], ...] = (
    {"config": "train.resume_from_checkpoint = '/x'"}, {"config": "[data]\npath = '/'"}, {"config": "[" * 3000},
    {"config": "[validation]\nimage = '/etc/passwd'"}, {"config": "[train]\noutput_dir = '/x'"}, {"checkpoint": None},
    {"config": "a = 1e999"}, {"data": "/"}, {"data": ".."}, {"data": "nothing here"}, {"data": "\\\\server\\x"},
    {"output_name": "CON"}, {"output_name": "a/b"}, {"output_name": ""}, {"output_name": "x" * 238}, {"steps": -1},
    {"method": "video_base"}, {"checkpoint": "../x"}, {"learning_rate": float("nan")},
    {"config": "[data]\nframes = 'x'"},
)  # fmt: skip


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def sources(picture: str) -> Graph:
    """What good inputs come from, tiny."""
    return {
        "load": node("I2VLoadCheckpoint", checkpoint=MODEL, preset="auto"),
        "load2": node("I2VLoadCheckpoint", checkpoint=IMAGE_MODEL, preset="auto"),
        "picture": node("LoadImage", image=picture),
        "frames": node("EmptyImage", width=64, height=64, batch_size=4, color=5000),
        "text": node("CLIPTextEncode", clip=["load", 1], text="pan left"),
        "encode": node("I2VEncodeImage", vae=["load", 2], image=["picture", 0], width=64, height=64, fit="crop"),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=2),
        "sigmas": node("I2VSchedule", model=["load", 0], steps=2, spacing="auto", start_step=1000),
        "video": node("CreateVideo", images=["frames", 0], fps=8.0),
        "adapter": node("I2VLoadAdapter", adapter="adapters/look_back"),
    }


GOOD = {
    "MODEL": ["load", 0], "CLIP": ["load", 1], "VAE": ["load", 2], "IMAGE": ["frames", 0], "CONDITIONING": ["text", 0],
    "I2V_IMAGE": ["encode", 0], "LATENT": ["latent", 0], "SIGMAS": ["sigmas", 0], "VIDEO": ["video", 0],
    "I2V_ADAPTER": ["adapter", 0], "IMAGE,VIDEO": ["frames", 0],
}  # fmt: skip
SMALL = {
    "width": 64, "height": 64, "frames": 2, "steps": 1, "batch_size": 1, "data": "", "config": "",
    "image": ["picture", 0], "sampler_name": "euler", "scheduler": "simple", "start_step": 1000,
}  # fmt: skip


def write_latents(folder: Path) -> list[str]:
    """Files for Load Latent that hold what no sampler makes; their names."""
    odd = {
        "scalar": torch.tensor(1.0), "rank1": torch.rand(4), "rank3": torch.rand(4, 8, 8),
        "rank5": torch.rand(1, 4, 2, 8, 8), "empty": torch.rand(0, 4, 8, 8), "whole": torch.ones(2, 4, 8, 8).int(),
        "nan": torch.full((2, 4, 8, 8), float("nan")), "channels": torch.rand(2, 7, 8, 8),
        "half": torch.rand(2, 12, 8, 8).half(),
    }  # fmt: skip
    for name, tensor in odd.items():
        save_file({"latent_tensor": tensor, "latent_format_version_0": torch.tensor([])}, folder / f"{name}.latent")
    return [f"{name}.latent" for name in odd]


@dataclass(frozen=True)
class Prompts:
    """Draws prompts for our nodes.

    Attributes:
        info: of all nodes, as the server tells.
        adapters: the names that it lists.
        latents: files for Load Latent.
    """

    info: dict[str, Any]
    adapters: list[str]
    latents: list[str]
    picture: str

    def draw(self, number: int) -> Graph:
        """The prompt of this number, the same in every run."""
        draw = random.Random(number)
        kinds = sorted(kind for kind in self.info if kind.startswith("I2V"))
        kind = kinds[number % len(kinds)]
        graph, inputs = self._graph(kind), self._good(kind, draw)
        graph |= self._odd(draw)
        if kind == "I2VTrainAdapter":
            inputs |= draw.choice(TRAININGS)
        for name in draw.sample(sorted(inputs), min(len(inputs), draw.choice((1, 1, 2)))):
            if kind != "I2VTrainAdapter":
                inputs[name] = self._bad(kind, name, draw)
        graph["fuzzed"] = node(kind, **inputs)
        if not self.info[kind]["output_node"]:
            graph["end"] = node("PreviewAny", source=["fuzzed", 0])
        return graph

    def _graph(self, kind: str) -> Graph:
        """The sources, all of them shown, so that the server keeps them from prompt to prompt."""
        graph = sources(self.picture)
        graph["adapter"]["inputs"]["adapter"] = next(
            name for name in self.adapters if ADAPTERS.get(kind, "look_back") in name
        )
        for name in list(graph):
            graph[f"keep {name}"] = node("PreviewAny", source=[name, 0])
        return graph

    def _odd(self, draw: random.Random) -> Graph:
        return {
            "odd LATENT": node("LoadLatent", latent=draw.choice(self.latents)),
            "odd IMAGE": node(
                "EmptyImage", width=draw.choice((1, 7, 65)), height=1, batch_size=draw.choice((1, 3)), color=0
            ),
            "odd INT": node("PrimitiveInt", value=draw.choice((-(2**31), -1, 0, 10**9))),
            "odd FLOAT": node("PrimitiveFloat", value=draw.choice((-1e9, -1.0, 0.0, 1e15))),
            "odd STRING": node("PrimitiveString", value=draw.choice(TEXTS)),
        }

    def _spec(self, kind: str) -> dict[str, Any]:
        entry = self.info[kind]["input"]
        return {**entry.get("required", {}), **entry.get("optional", {})}

    def _good(self, kind: str, draw: random.Random) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        required = self.info[kind]["input"].get("required", {})
        for name, (type_, *rest) in self._spec(kind).items():
            options = rest[0] if rest else {}
            if name in SMALL:
                inputs[name] = SMALL[name]
            elif type_ in GOOD:
                inputs[name] = GOOD[type_]
            elif type_ == "COMBO" or isinstance(type_, list):
                choices = options.get("options") or type_
                inputs[name] = options.get("default", choices[0])
            elif "default" in options:
                inputs[name] = options["default"]
            if name not in required and name in inputs and draw.random() < 0.6:
                del inputs[name]
        if kind == "I2VApplyLookBack":
            inputs["model"] = ["load2", 0]
        return inputs

    def _bad(self, kind: str, name: str, draw: random.Random) -> Any:
        type_ = self._spec(kind)[name][0]
        if type_ in ("INT", "FLOAT") and draw.random() < 0.7:
            return draw.choice([*NUMBERS, [f"odd {type_}", 0]])
        if type_ in ("STRING", "COMBO") and draw.random() < 0.7:
            return draw.choice([*TEXTS, ["odd STRING", 0]])
        if f"odd {type_}" in ("odd LATENT", "odd IMAGE") and draw.random() < 0.6:
            return [f"odd {type_}", 0]
        if draw.random() < 0.3:
            return draw.choice([*GOOD.values()])
        return draw.choice(LITERALS)
