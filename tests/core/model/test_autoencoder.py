"""The convolutional autoencoder has LDM's names and computes what they mean elsewhere."""

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from i2v_core.model.autoencoder import Autoencoder, AutoencoderConfig
from i2v_core.weights.contents import build_autoencoder
from tests.core.weights.small import largest_difference, prefixed, seed
from tests.parity.seeded import seeded_normal

CONFIG = AutoencoderConfig(channels=32, channel_mult=(1, 2, 2), num_res_blocks=2)


@pytest.fixture(scope="module")
def ours() -> Autoencoder:
    built = seed(build_autoencoder(CONFIG))
    assert isinstance(built, Autoencoder)
    return built


@pytest.fixture(scope="module")
def theirs(ours: Autoencoder) -> AutoencoderKL:
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 64),
        layers_per_block=2,
        latent_channels=4,
    )
    state = prefixed("first_stage_model.", ours.state_dict())
    model.load_state_dict(convert_ldm_vae_checkpoint(state, dict(model.config)))
    return model.eval()


def test_the_full_size_has_the_known_number_of_weights() -> None:
    state = build_autoencoder(AutoencoderConfig(), device="meta").state_dict()
    assert len(state) == 248
    assert sum(tensor.numel() for tensor in state.values()) == 83_653_863
    assert AutoencoderConfig().downscale == 8


@torch.no_grad()
def test_an_independent_autoencoder_encodes_the_same(ours: Autoencoder, theirs: AutoencoderKL) -> None:
    pixels = seeded_normal("pixels", (2, 3, 24, 16))
    expected = theirs.encode(pixels).latent_dist.mode() * CONFIG.scale_factor
    assert expected.shape == (2, 4, 6, 4)
    assert largest_difference(ours.encode(pixels), expected) < 1e-5


@torch.no_grad()
def test_an_independent_autoencoder_decodes_the_same(ours: Autoencoder, theirs: AutoencoderKL) -> None:
    latents = seeded_normal("latents", (2, 4, 6, 4))
    expected = theirs.decode(latents / CONFIG.scale_factor).sample
    assert largest_difference(ours.decode(latents), expected) < 1e-4


@torch.no_grad()
def test_a_clip_is_its_frames(ours: Autoencoder) -> None:
    clip = seeded_normal("clip", (2, 3, 3, 8, 16))
    latents = ours.encode_clip(clip)
    assert largest_difference(latents, torch.stack([ours.encode(f) for f in clip.unbind(2)], dim=2)) < 1e-5
    pixels = ours.decode_clip(latents)
    assert pixels.shape == clip.shape
    assert largest_difference(pixels, torch.stack([ours.decode(f) for f in latents.unbind(2)], dim=2)) < 1e-4
