"""The workflows on Stable Diffusion 1.5 over HTTP: the host's own loader, text encoder and sampler."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dev
from tests.nodes.stable_diffusion import write_checkpoint
from tools.comfy_server import ComfyServer, ServerError

Graph = dict[str, dict[str, Any]]


def workflow(name: str, **settings: Any) -> Graph:
    return dev.edit_graph(json.loads((dev.ROOT / f"workflows/api/{name}.json").read_text()), **settings)


def pictures(host: ComfyServer, entry: dict[str, Any], node: str) -> list[np.ndarray]:
    return [np.array(Image.open(io.BytesIO(host.view(item)))) for item in entry["outputs"][node]["images"]]


def saving(images: list[Any], prefix: str) -> dict[str, Any]:
    return {"class_type": "SaveImage", "inputs": {"images": images, "filename_prefix": prefix}}


@pytest.fixture
def stable_diffusion_files(core: Callable[[str], Any], host: ComfyServer) -> Iterator[None]:
    """A small checkpoint and an adapter for it, under the names in the workflow, in the server's folders."""
    assert host.log is not None
    models, look_back = host.log.parent / "models", core("model.look_back")
    adapter = models / "model_patches/look_back_sd15.safetensors"
    checkpoint = models / "checkpoints/v1-5-pruned-emaonly-fp16.safetensors"
    for file in (adapter, checkpoint):
        file.parent.mkdir(parents=True, exist_ok=True)
    config = look_back.LookBackConfig(depth=2, adapter="causal", sites=look_back.find_sites("stage", 320, (1,), 1))
    with torch.inference_mode(False), torch.random.fork_rng():
        torch.manual_seed(0)
        core("weights.adapters").save_adapter(adapter, "look_back", look_back.LookBack(config))
    write_checkpoint(checkpoint)
    yield
    checkpoint.unlink()


def test_the_host_s_own_stable_diffusion_animates_the_given_image(
    host: ComfyServer, stable_diffusion_files: None
) -> None:
    image = host.upload(dev.ROOT / "demo/images/chelsea.jpg")
    graph = workflow("animate_lookback_sd15", image=image, frames=3, steps=2)
    # One prompt for both branches: half precision is slow on a CPU, and the text encoder is a real one.
    del graph["6"]
    graph["9"]["inputs"]["negative"] = ["5", 0]
    for node in ("4", "8"):
        graph[node]["inputs"] |= {"width": 64, "height": 64}
    given = {"class_type": "VAEDecode", "inputs": {"samples": ["8", 0], "vae": ["1", 2]}}
    graph |= {"20": saving(["10", 0], "frame"), "21": given, "22": saving(["21", 0], "given")}
    entry = host.run(graph, seconds=300)
    (video,) = entry["outputs"]["11"]["images"]
    assert video["format"] == "video/mp4"
    frames = pictures(host, entry, "20")
    assert len(frames) == 3
    np.testing.assert_array_equal(frames[0], pictures(host, entry, "22")[0])
    assert len({frame.tobytes() for frame in frames}) == 3

    graph["4"]["inputs"]["width"] = 72
    graph["8"] = {"class_type": "I2VVideoLatent", "inputs": {"frames": 3, "width": 64, "height": 64}}
    with pytest.raises(ServerError, match="latent to sample is 8 x 8 with 4 channels, the given image's 9 x 8"):
        host.run(graph, seconds=300)


def test_one_model_paints_the_picture_and_animates_it(host: ComfyServer, stable_diffusion_files: None) -> None:
    graph = workflow("text_to_image_lookback", frames=3, steps=1)
    graph["12"]["inputs"]["negative"] = graph["9"]["inputs"]["negative"] = ["5", 0]
    del graph["6"]
    graph["3"]["inputs"] |= {"width": 64, "height": 64}
    for node in ("4", "8"):
        graph[node]["inputs"] |= {"width": 64, "height": 64}
    graph |= {"20": saving(["10", 0], "frame"), "21": saving(["13", 0], "picture")}
    entry = host.run(graph, seconds=300)
    frames, (picture,) = pictures(host, entry, "20"), pictures(host, entry, "21")
    assert len(frames) == 3
    assert picture.shape == frames[0].shape


def test_an_edited_picture_is_animated_by_trip(host: ComfyServer, core: Callable[[str], Any]) -> None:
    assert host.log is not None
    checkpoint = host.log.parent / "models/checkpoints/instruct-pix2pix-00-22000.safetensors"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(checkpoint, in_channels=8)
    host.upload(dev.ROOT / "demo/images/chelsea.jpg")
    graph = workflow("edited_image_to_video", steps=2)
    graph["18"]["inputs"] |= {"width": 64, "height": 64}
    graph["20"] = saving(["16", 0], "frame")
    entry = host.run(graph, seconds=300)
    checkpoint.unlink()
    (edited,) = pictures(host, entry, "9")
    assert len(frames := pictures(host, entry, "20")) == 8
    # The demo's prior leads the first frame to the edited picture, whatever an untrained editor made of it.
    assert np.abs(frames[0].astype(float) - edited).mean() < np.abs(frames[-1].astype(float) - edited).mean()
