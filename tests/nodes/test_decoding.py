"""ToonCrafter's decoder through the host: its VAE, its node, and what they refuse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.core.weights.small_files import write_small


@pytest.fixture(scope="module")
def toon(load: Callable[[Any], Any], save: Callable[..., Any]) -> Any:
    other = save("beside_toon")
    path = write_small(other.path.parent, "tooncrafter", "pruned", name="beside_toon_2.safetensors")
    return load(type(other)(path.name, path, None))


@pytest.fixture(scope="module")
def autoencoder(toon: Any, core: Callable[[str], Any]) -> Any:
    """The same network in the core."""
    return core("weights").load_checkpoint(toon.saved.path).autoencoder


def images() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(1, 32, 48, 3, generator=draw), torch.rand(1, 32, 48, 3, generator=draw)


def latent(frames: int = 6) -> dict[str, torch.Tensor]:
    return {"samples": torch.randn(frames, 4, 4, 6, generator=torch.Generator().manual_seed(1))}


def near(given: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal but for the precision that the host chose."""
    return bool((given - expected).abs().mean() < 0.01)


def test_the_host_s_vae_encodes_and_decodes_like_the_core(toon: Any, autoencoder: Any) -> None:
    scale, (picture, _) = autoencoder.config.scale_factor, images()
    expected = autoencoder.encode(picture.movedim(-1, 1) * 2 - 1) / scale
    torch.testing.assert_close(toon.vae.encode(picture), expected, atol=2e-2, rtol=0)
    clip = latent()["samples"].movedim(0, 1)[None]
    pixels = autoencoder.decode_clip(clip * scale)[0].movedim(0, -1)
    assert near(toon.vae.decode(latent()["samples"]), ((pixels + 1) / 2).clamp(0, 1))
    assert toon.vae.spacial_compression_encode() == 8


@pytest.mark.parametrize("twice", [True, False])
def test_the_node_decodes_between_the_images_like_the_core(
    node_classes: dict[str, Any], toon: Any, autoencoder: Any, core: Callable[[str], Any], twice: bool
) -> None:
    first, last = images()
    frames = node_classes["I2VDecodeDualReference"].execute(latent(), toon.vae, first, last, twice).result[0]
    both = torch.cat([first, last]).movedim(-1, 0)[None] * 2 - 1
    features = autoencoder.reference_features(both)

    def decode(z: torch.Tensor) -> torch.Tensor:
        return autoencoder.decode_clip(z, features)

    clip = latent()["samples"].movedim(0, 1)[None] * autoencoder.config.scale_factor
    decoding = core("model.dual_reference_decoder")
    pixels = decoding.decode_middle_twice(decode, clip) if twice else decode(clip)
    assert frames.shape == (6, 32, 48, 3)
    assert near(frames, ((pixels[0].movedim(0, -1) + 1) / 2).clamp(0, 1))
    assert not near(frames, toon.vae.decode(latent()["samples"]))


def test_larger_images_are_cropped_to_the_clip(node_classes: dict[str, Any], toon: Any) -> None:
    def decoded(*pictures: torch.Tensor) -> torch.Tensor:
        return node_classes["I2VDecodeDualReference"].execute(latent(2), toon.vae, *pictures).result[0]

    first, last = images()
    wide = torch.nn.functional.pad(first, (0, 0, 10, 10))
    assert torch.equal(decoded(wide, last), decoded(first, last))


def test_the_decoder_is_in_the_host_s_care(node_classes: dict[str, Any], toon: Any, host_module: Any) -> None:
    management = host_module("comfy.model_management")
    management.unload_all_models()
    node_classes["I2VDecodeDualReference"].execute(latent(2), toon.vae, *images())
    assert any(loaded.model is toon.vae.patcher for loaded in management.current_loaded_models)
    assert toon.vae.patcher.model is toon.vae.first_stage_model


def test_what_is_not_tooncrafter_s_is_refused(node_classes: dict[str, Any], toon: Any, tiny: Any) -> None:
    execute = node_classes["I2VDecodeDualReference"].execute
    with pytest.raises(ValueError, match=r"connect vae of Load I2V Checkpoint with a full or pruned ToonCrafter file"):
        execute(latent(), tiny.vae, *images())
    with pytest.raises(ValueError, match=r"4 channels, got a latent of shape \(2, 12, 4, 6\)"):
        execute({"samples": torch.zeros(2, 12, 4, 6)}, toon.vae, *images())
    with pytest.raises(ValueError, match="Expected one picture"):
        execute(latent(), toon.vae, torch.rand(2, 32, 48, 3), images()[1])


def test_the_model_takes_stable_diffusion_s_latents(toon: Any, host_module: Any) -> None:
    kind = host_module("comfy.latent_formats").SD15
    assert isinstance(toon.model.model.latent_format, kind)
    assert toon.model.model.preset.name == "tooncrafter"
