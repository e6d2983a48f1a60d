"""Bad input over HTTP: one clear sentence in the node's error, and the server takes the next prompt."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tools.comfy_server import ComfyServer, ServerError


@pytest.fixture
def graph(host: ComfyServer, save: Callable[..., Any], tmp_path: Path) -> dict[str, Any]:
    """A whole graph on a tiny checkpoint in the server's own folder, one step long."""
    assert host.log is not None
    folder = host.log.parent / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    whole = save("served").path.read_bytes()
    (folder / "served.safetensors").write_bytes(whole)
    (folder / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "no_checkpoint.safetensors").write_text("a shopping list")
    for mode, color in (("RGB", (90, 120, 30)), ("RGBA", (90, 120, 30, 100)), ("L", 90)):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (50, 40), color).save(path)
        host.upload(path)

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    size, sampling = {"width": 32, "height": 32}, {"sampler_name": "euler", "scheduler": "simple"}
    branches = {"positive": ["given", 0], "negative": ["given", 1], "latent_image": ["given", 2]}
    return {
        "load": node("I2VLoadCheckpoint", checkpoint="served.safetensors", preset="auto"),
        "image": node("LoadImage", image="RGB.png"),
        "encode": node("I2VEncodeImage", vae=["load", 2], image=["image", 0], fit="crop", **size),
        "text": node("CLIPTextEncode", clip=["load", 1], text="pan left"),
        "given": node(
            "I2VConditioning",
            positive=["text", 0],
            negative=["text", 0],
            i2v_image=["encode", 0],
            frames=2,
            fps=0.0,
        ),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=5),
        "sample": node("KSampler", model=["load", 0], seed=0, steps=1, cfg=1.0, denoise=1.0, **sampling, **branches),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["load", 2]),
        "save": node(
            "I2VCombineVideo",
            images=["decode", 0],
            frame_rate=8.0,
            filename_prefix="bad/clip",
            crf=17,
            save_output=True,
        ),
    }


def test_every_bad_input_gets_its_sentence_and_the_server_goes_on(host: ComfyServer, graph: dict[str, Any]) -> None:
    cases = [
        ("load", {"checkpoint": "truncated.safetensors"}, "truncated.safetensors"),
        ("load", {"checkpoint": "no_checkpoint.safetensors"}, "no_checkpoint.safetensors"),
        ("encode", {"width": 36, "height": 30}, "multiples of 4, got 30x36"),
        (
            "encode",
            {"image_projection": ["load", 4], "clip_vision": ["load", 3], "width": 34},
            "multiples of 4",
        ),
        ("given", {"frames": 1}, "at least 2 frames, got 1"),
        (
            "sample",
            {"latent_image": ["latent", 0]},
            "latent has 5 frames, but the conditioning was made for 2",
        ),
        ("sample", {"negative": ["text", 0]}, "connect I2V Conditioning"),
        ("given", {"end_image": ["encode", 0]}, "animates one image and cannot reach an end_image"),
    ]
    for name, changes, sentence in cases:
        bad = json.loads(json.dumps(graph))
        bad[name]["inputs"] |= changes
        with pytest.raises(ServerError, match=sentence) as caught:
            host.run(bad)
        assert "\n" not in str(caught.value), str(caught.value)

    assert host.log is not None
    assert not list((host.log.parent / "output").glob("bad/*"))
    for picture in ("RGB", "RGBA", "L"):
        graph["image"]["inputs"]["image"] = f"{picture}.png"
        entry = host.run(graph)
        assert entry["outputs"]["save"]["images"]
