"""The shipped TRIP workflows over HTTP: the demo's as they are, the others on small files under the public names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import dev
from i2v_core.metrics.pixels import psnr
from i2v_core.model.autoencoder import AutoencoderConfig
from i2v_core.model.text_encoder import TextEncoder, TextEncoderConfig
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.presets import PRESETS
from i2v_core.video import fit_image, frames_to_clip, read_video, to_model_range
from i2v_core.weights import Checkpoint, save_checkpoint
from i2v_core.weights.contents import build_autoencoder
from tests.core.weights.small import SMALL, SMALL_IMAGE_MODEL, modelscope_state, seed
from tools.comfy_server import ComfyServer, failure

Graph = dict[str, dict[str, Any]]
NOISE = torch.randn(150_000, generator=torch.Generator().manual_seed(0)).mul(0.02).half()


@pytest.fixture(scope="module")
def models(host: ComfyServer) -> Path:
    """The server's folder of models, with the pictures that the workflows name uploaded."""
    for image in (dev.ROOT / "demo/images").glob("*.jpg"):
        host.upload(image)
    assert host.log is not None
    return host.log.parent / "models"


def graph_of(name: str) -> Graph:
    return dict(json.loads((dev.ROOT / f"workflows/api/{name}.json").read_text()))


def node(graph: Graph, kind: str) -> dict[str, Any]:
    return next(node for node in graph.values() if node["class_type"] == kind)


def run(host: ComfyServer, graph: Graph, folder: Path) -> Tensor:
    """Frames of the one video that the graph makes, `t h w c`."""
    entry = host.wait(host.submit(graph), seconds=300)
    assert failure(entry) is None
    (item,) = [
        item
        for result in entry["outputs"].values()
        for item in result.get("images", [])
        if item["filename"].endswith(".mp4")
    ]
    path = folder / item["filename"]
    path.write_bytes(host.view(item))
    return read_video(path).frames


def first_frame_psnr(frames: Tensor, photograph: str) -> float:
    """How well the first frame shows the photograph, in dB."""
    with Image.open(dev.ROOT / "demo/images" / photograph) as image:
        picture = torch.from_numpy(np.array(image.convert("RGB")))
    given = to_model_range(fit_image(picture, 64, 64)).permute(2, 0, 1)
    return psnr(frames_to_clip(frames)[:, 0], given).item()


def difference(a: Tensor, b: Tensor) -> float:
    return (a.float() - b.float()).abs().mean().item()


def test_the_trained_adapter_animates_the_photograph(host: ComfyServer, models: Path, tmp_path: Path) -> None:
    graph = dev.edit_graph(graph_of("animate_trip"), steps=6)
    learned = run(host, graph, tmp_path)
    assert learned.shape == (8, 64, 64, 3)
    assert first_frame_psnr(learned, node(graph, "LoadImage")["inputs"]["image"]) > 26
    assert difference(learned[0], learned[-1]) > 3, "the camera moves"
    for other in ("linear", "none"):
        assert difference(run(host, dev.edit_graph(graph, fusion=other), tmp_path), learned) > 0.1, other


def test_the_prior_holds_the_frames_at_the_photograph(host: ComfyServer, models: Path, tmp_path: Path) -> None:
    graph = dev.edit_graph(graph_of("image_prior_any_model"), steps=6)
    led = run(host, graph, tmp_path)
    assert led.shape == (8, 64, 64, 3)
    assert first_frame_psnr(led, "chelsea.jpg") > 26
    held = dev.edit_graph(graph, first_lambda=1.0, last_lambda=1.0, end_percent=1.0)
    frames = run(host, held, tmp_path)
    assert difference(frames[0], frames[-1]) < 1
    assert difference(led[0], led[-1]) > 3


def test_an_image_of_another_model_goes_straight_into_the_video(
    host: ComfyServer, models: Path, tmp_path: Path
) -> None:
    """A small text-to-image model of the pack's own format stands for Stable Diffusion: same outputs, other loader."""
    config = VideoUNetConfig(**{**vars(SMALL_IMAGE_MODEL), "channel_mult": (1, 2), "num_res_blocks": 1,
                                "attention_levels": (1,)})  # fmt: skip
    small = Checkpoint(
        unet=seed(VideoUNet(config)),
        image_projection=None,
        autoencoder=seed(build_autoencoder(AutoencoderConfig(32, (1, 1, 1, 1), 1))),
        text_encoder=seed(TextEncoder(TextEncoderConfig())),
        preset=PRESETS["stable_diffusion_1_5"],
        dialect="i2v",
        metadata={},
    )
    (models / "checkpoints").mkdir(parents=True, exist_ok=True)
    save_checkpoint(models / "checkpoints/images.safetensors", small)
    graph = graph_of("text_to_image_to_video")
    loader = node(graph, "CheckpointLoaderSimple")
    loader |= {"class_type": "I2VLoadCheckpoint", "inputs": {"checkpoint": "images.safetensors", "preset": "auto"}}
    node(graph, "EmptyLatentImage")["inputs"] |= {"width": 64, "height": 64}
    frames = run(host, dev.edit_graph(graph, steps=3), tmp_path)
    assert frames.shape == (8, 64, 64, 3)


def overlapping(shape: tuple[int, ...]) -> Tensor:
    """Half-precision noise of any size that takes next to no room in a file: all tensors share one short storage."""
    return NOISE.as_strided(shape, (3, *(1 for _ in shape[1:])))


def open_clip_text() -> dict[str, Tensor]:
    """OpenCLIP ViT-H's text tower at its real size, under the names of `open_clip_pytorch_model.bin`."""
    block = {
        "ln_1.weight": (1024,), "ln_1.bias": (1024,), "ln_2.weight": (1024,), "ln_2.bias": (1024,),
        "attn.in_proj_weight": (3072, 1024), "attn.in_proj_bias": (3072,), "attn.out_proj.weight": (1024, 1024),
        "attn.out_proj.bias": (1024,), "mlp.c_fc.weight": (4096, 1024), "mlp.c_fc.bias": (4096,),
        "mlp.c_proj.weight": (1024, 4096), "mlp.c_proj.bias": (1024,),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "positional_embedding": (77, 1024), "token_embedding.weight": (49408, 1024), "ln_final.weight": (1024,),
        "ln_final.bias": (1024,), "text_projection": (1024, 1024), "visual.proj": (1280, 1024),
    }  # fmt: skip
    shapes |= {f"transformer.resblocks.{i}.{name}": shape for i in range(24) for name, shape in block.items()}
    return {name: overlapping(shape) for name, shape in shapes.items()}


def test_text_to_video_runs_on_modelscope_s_own_files(host: ComfyServer, models: Path, tmp_path: Path) -> None:
    for folder in ("diffusion_models", "text_encoders", "vae"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    unet = seed(VideoUNet(VideoUNetConfig(**{**vars(SMALL), "context_dim": 1024})))
    torch.save(modelscope_state(unet.state_dict()), models / "diffusion_models/text2video_pytorch_model.pth")
    torch.save(open_clip_text(), models / "text_encoders/open_clip_pytorch_model.bin")
    vae = seed(build_autoencoder(AutoencoderConfig())).half().state_dict()
    graph = graph_of("text_to_video")
    save_file(vae, models / "vae" / node(graph, "VAELoader")["inputs"]["vae_name"])
    node(graph, "EmptyLatentImage")["inputs"] |= {"width": 64, "height": 64, "batch_size": 3}
    frames = run(host, dev.edit_graph(graph, steps=2), tmp_path)
    assert frames.shape == (3, 64, 64, 3)
    assert frames.float().std() > 1, "a flat picture is what NaN becomes"
