"""The reference networks' answers, reached through their own names, a file, and the loader."""

from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor

from i2v_core import Checkpoint, load_checkpoint
from tests.parity import seeded

UNET, PROJECTION = "model.diffusion_model.", "image_proj_model."


def weights(name: str, prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in seeded.state_dict(seeded.load(name)).items()}


def difference(name: str, result: Tensor) -> float:
    (reference,) = seeded.expected(seeded.load(name)).values()
    assert result.shape == reference.shape
    return (result - reference).abs().max().item()


@pytest.fixture(scope="module")
def dynamicrafter(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A full DynamiCrafter 512 file in small: U-Net, image projection and schedule tables."""
    path = tmp_path_factory.mktemp("parity") / "pruned.safetensors"
    tables = {"scale_arr": torch.full((1400,), 0.7).half(), "betas": torch.zeros(1000).half()}
    networks = weights("unet_dynamicrafter_512", UNET) | weights("resampler_dynamicrafter", PROJECTION)
    save_file(networks | tables, path)
    return load_checkpoint(path)


@torch.no_grad()
def test_dynamicrafter_512_answers_like_the_reference(dynamicrafter: Checkpoint) -> None:
    inputs = seeded.inputs(seeded.load("unet_dynamicrafter_512"))
    inputs["image_tokens"] = rearrange(inputs["image_tokens"], "b (t k) d -> b t k d", t=16)
    assert (dynamicrafter.dialect, dynamicrafter.preset.name) == ("lvdm", "dynamicrafter_512")
    assert difference("unet_dynamicrafter_512", dynamicrafter.unet(**inputs)) < 3e-5


@torch.no_grad()
def test_the_image_projection_answers_like_the_reference(dynamicrafter: Checkpoint) -> None:
    assert dynamicrafter.image_projection is not None
    tokens = dynamicrafter.image_projection(**seeded.inputs(seeded.load("resampler_dynamicrafter")))
    assert tokens.shape == (2, 16, 16, 128)
    assert difference("resampler_dynamicrafter", rearrange(tokens, "b t k d -> b (t k) d")) < 2e-5


@torch.no_grad()
def test_videocrafter2_answers_like_the_reference_from_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": weights("unet_videocrafter2", UNET), "global_step": 3}, path)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.dialect, checkpoint.preset.name) == ("lvdm", "videocrafter2")
    result = checkpoint.unet(**seeded.inputs(seeded.load("unet_videocrafter2")))
    assert difference("unet_videocrafter2", result) < 3e-5
