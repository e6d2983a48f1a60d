"""One autoencoder in all the files in which it is shared."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor

from i2v_core.model import autoencoder as module
from i2v_core.weights import CheckpointError
from i2v_core.weights.companions import load_autoencoder
from tests.core.weights.small import largest_difference, prefixed, seed
from tests.core.weights.small_files import write_small
from tests.parity.seeded import seeded_normal

PIXELS, LATENTS = seeded_normal("pixels", (1, 3, 24, 16)), seeded_normal("latents", (2, 4, 3, 6, 4))


@pytest.fixture(scope="module")
def theirs() -> AutoencoderKL:
    return seed(
        AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(32, 64, 64),
            layers_per_block=1,
        )
    )


@pytest.fixture(scope="module")
def folder(theirs: AutoencoderKL, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The autoencoder as diffusers saves it."""
    path = tmp_path_factory.mktemp("vae")
    theirs.save_pretrained(path)
    return path


def old_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As diffusers named and shaped the attention before 0.13, with convolutions."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, old in names.items():
        tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
    return tensors


@torch.no_grad()
@pytest.mark.parametrize("form", ["folder", "file", "old names", "in a pipeline's file"])
def test_an_autoencoder_of_diffusers_computes_the_same(
    form: str, folder: Path, theirs: AutoencoderKL, tmp_path: Path
) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    path = {"folder": folder, "file": file}.get(form, tmp_path / "vae.safetensors")
    if form == "old names":
        save_file(old_names(load_file(file)), path)
    elif form == "in a pipeline's file":
        save_file(prefixed("vae.", load_file(file)), path)
    ours = load_autoencoder(path)
    assert ours.config.channel_mult == (1, 2, 2)
    assert largest_difference(ours.encode(PIXELS), theirs.encode(PIXELS).latent_dist.mode() * 0.18215) < 1e-5
    expected = theirs.decode(LATENTS[:, :, 0] / 0.18215).sample
    assert largest_difference(ours.decode(LATENTS[:, :, 0]), expected) < 1e-4


@torch.no_grad()
def test_a_full_checkpoint_and_its_autoencoder_alone_are_one(folder: Path, tmp_path: Path) -> None:
    ours = load_autoencoder(folder)
    save_file(ours.state_dict(), tmp_path / "alone.safetensors")
    save_file(
        prefixed("first_stage_model.", ours.state_dict()) | {"first_stage_model.loss.logvar": torch.zeros(1)},
        tmp_path / "full.safetensors",
    )
    for name in ("alone", "full"):
        loaded = load_autoencoder(tmp_path / f"{name}.safetensors")
        assert torch.equal(loaded.encode(PIXELS), ours.encode(PIXELS))
    assert load_autoencoder(folder, dtype=torch.bfloat16).encode(PIXELS.bfloat16()).dtype == torch.bfloat16


@torch.no_grad()
@pytest.mark.parametrize(("device", "portions"), [("cpu", [1] * 6), ("meta", [4, 2])])
def test_frames_go_through_in_portions_that_bound_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device: str, portions: list[int]
) -> None:
    ours, seen = load_autoencoder(folder).to(device), list[int]()
    ours.post_quant_conv.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 4 * 24 * 16)
    pixels = ours.decode_clip(LATENTS.to(device))
    assert seen == portions
    assert ours.encode_clip(pixels).shape == LATENTS.shape


@torch.no_grad()
def test_pictures_in_portions_are_those_together(folder: Path) -> None:
    ours, scale = load_autoencoder(folder), 0.18215
    rows = rearrange(LATENTS, "b c t h w -> (b t) c h w")
    pixels = ours.decode(rows)
    assert largest_difference(pixels, ours.decoder(ours.post_quant_conv(rows / scale))) < 1e-4
    means = ours.quant_conv(ours.encoder(pixels))[:, :4] * scale
    assert largest_difference(ours.encode(pixels), means) < 1e-4


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    lora = tmp_path / "lora.safetensors"
    save_file({"lora_unet_mid.lora_up.weight": torch.zeros(1)}, lora)
    with pytest.raises(CheckpointError, match=r"autoencoder from 'lora.safetensors': it looks like a LoRA"):
        load_autoencoder(lora)
    with pytest.raises(CheckpointError, match="it looks like something else"):
        load_autoencoder(write_small(tmp_path, "videocrafter2", "unet_only"))
    with pytest.raises(FileNotFoundError):
        load_autoencoder(tmp_path / "none.safetensors")
