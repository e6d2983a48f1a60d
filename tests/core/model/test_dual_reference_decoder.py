"""ToonCrafter's decoder against the reference, and what its parts must leave alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from i2v_core.model.autoencoder import Autoencoder, AutoencoderConfig
from i2v_core.model.dual_reference_decoder import DualReferenceConfig, decode_middle_twice
from i2v_core.weights.contents import build_autoencoder
from i2v_core.weights.recognize import recognize_autoencoder
from tests.core.weights.small import largest_difference, seed
from tests.parity import seeded
from tests.parity.seeded import seeded_normal

SMALL = DualReferenceConfig(channels=32, channel_mult=(1, 2), num_res_blocks=1, fusion_levels=(1,), fusion_heads=1)
CASE = seeded.load("dual_reference_decoder")


@pytest.fixture(scope="module")
def reference() -> Any:
    """The case's network, recognized and built from the reference's own names."""
    tensors = seeded.state_dict(CASE)
    config = recognize_autoencoder(tensors)
    assert (config.channel_mult, config.fusion_levels, config.fusion_heads) == ((1, 2, 2, 4), (2, 3), 8)
    autoencoder = build_autoencoder(config)
    autoencoder.load_state_dict(tensors)
    return autoencoder.eval()


@torch.no_grad()
@pytest.mark.parametrize("referenced", [True, False])
def test_clips_decode_like_the_reference(reference: Any, referenced: bool) -> None:
    inputs, expected = seeded.inputs(CASE), seeded.expected(CASE)
    features = reference.reference_features(inputs["images"]) if referenced else None
    latents = inputs["latents"] * reference.config.scale_factor
    pixels = reference.decode_clip(latents, features)[..., ::4, ::4]
    assert largest_difference(pixels, expected["with_references" if referenced else "without"]) < 1e-4


def test_the_public_network_has_the_reference_number_of_tensors_and_parameters() -> None:
    """Counted on the reference's class, whose names and shapes are the same."""
    state = build_autoencoder(DualReferenceConfig(), device="meta").state_dict()
    assert len(state) == 396
    assert sum(tensor.numel() for tensor in state.values()) == 99_941_907
    assert recognize_autoencoder(state) == DualReferenceConfig()


def small() -> Any:
    return seed(build_autoencoder(SMALL))


def clip(frames: int = 3) -> tuple[Tensor, Tensor]:
    """Latents and the first and last image."""
    return seeded_normal("z", (2, 4, frames, 4, 6)), seeded_normal("images", (2, 3, 2, 8, 12))


@torch.no_grad()
def test_a_new_decoder_ignores_its_references() -> None:
    """What they pass through starts at zero."""
    torch.manual_seed(0)
    autoencoder, (latents, images) = build_autoencoder(SMALL), clip()
    referenced = autoencoder.decode_clip(latents, autoencoder.reference_features(images))
    assert torch.equal(referenced, autoencoder.decode_clip(latents))


@torch.no_grad()
def test_the_encoder_is_stable_diffusion_s() -> None:
    config = AutoencoderConfig(channels=32, channel_mult=(1, 2), num_res_blocks=1)
    plain = build_autoencoder(config)
    assert isinstance(plain, Autoencoder)
    own = small()
    kept = {name: value for name, value in own.state_dict().items() if not name.startswith("decoder.")}
    assert not plain.load_state_dict(kept, strict=False).unexpected_keys
    pictures = seeded_normal("pictures", (2, 3, 8, 8))
    assert torch.equal(plain.encode(pictures), own.encode(pictures))


@torch.no_grad()
def test_clips_of_a_batch_do_not_meet() -> None:
    autoencoder, (latents, images) = small(), clip()
    both = autoencoder.decode_clip(latents, autoencoder.reference_features(images))
    for i in range(2):
        alone = autoencoder.decode_clip(latents[i : i + 1], autoencoder.reference_features(images[i : i + 1]))
        assert largest_difference(both[i : i + 1], alone) < 1e-5


@torch.no_grad()
def test_every_frame_sees_both_references() -> None:
    autoencoder, (latents, images) = small(), clip(5)
    exact = autoencoder.decode_clip(latents, autoencoder.reference_features(images))
    for i in range(2):
        changed = images.clone()
        changed[:, :, i] = seeded_normal("changed", changed[:, :, i].shape)
        moved = (autoencoder.decode_clip(latents, autoencoder.reference_features(changed)) - exact).abs()
        assert (moved.amax(dim=(0, 1, 3, 4)) > 1e-3).all()


@torch.no_grad()
def test_a_picture_is_a_clip_of_one_frame() -> None:
    autoencoder, (latents, _) = small(), clip()
    assert torch.equal(autoencoder.decode(latents[:, :, 0]), autoencoder.decode_clip(latents[:, :, :1])[:, :, 0])


def test_every_part_is_trained_by_what_it_decodes() -> None:
    autoencoder, (latents, images) = small(), clip()
    pixels = autoencoder.decode_clip(latents, autoencoder.reference_features(images))
    (pixels * seeded_normal("weights", pixels.shape)).sum().backward()
    unused = {name.split(".")[0] for name, p in autoencoder.named_parameters() if p.grad is None}
    assert unused == {"encoder", "quant_conv", "post_quant_conv"}
    assert not [name for name, p in autoencoder.decoder.named_parameters() if p.grad is None]


@pytest.mark.parametrize("frames", [6, 7, 16])
def test_the_middle_frames_are_those_of_the_second_pass(frames: int) -> None:
    """A decoder that stamps how many frames it saw; the values say which frame each was."""
    latents = torch.arange(frames).float().reshape(1, 1, frames, 1, 1)
    pixels = decode_middle_twice(lambda z: torch.cat([z, torch.full_like(z, z.shape[2])], dim=1), latents)
    assert torch.equal(pixels[:, :1], latents)
    seen = [frames] * frames
    seen[frames // 2 - 1 : frames // 2 + 1] = [frames - 2] * 2
    assert pixels[0, 1].flatten().tolist() == seen


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_short_clips_are_decoded_once(frames: int) -> None:
    calls = []
    decode_middle_twice(lambda z: calls.append(z) or z, torch.zeros(1, 4, frames, 2, 2))
    assert len(calls) == 1
