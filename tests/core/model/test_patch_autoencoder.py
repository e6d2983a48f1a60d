"""With all components kept the patches come back exactly; with fewer, as well as principal components can."""

import torch
from torch import nn

from i2v_core.data.moving_crops import TEST_PHOTOGRAPHS, MovingCrops, MovingCropsConfig
from i2v_core.metrics.pixels import psnr
from i2v_core.model.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig, fit_patches


def pictures(photographs: tuple[str, ...], count: int, size: int = 64) -> torch.Tensor:
    data = MovingCrops(MovingCropsConfig(frames=1, size=size, photographs=photographs))
    return torch.stack([data.clip(index).pixels[:, 0] for index in range(count)])


def fitted(config: PatchAutoencoderConfig) -> PatchAutoencoder:
    autoencoder = PatchAutoencoder(config)
    fit_patches(autoencoder, pictures(MovingCropsConfig().photographs, 100))
    return autoencoder.eval()


@torch.no_grad()
def test_all_components_lose_nothing_but_the_mean_patch() -> None:
    autoencoder = fitted(PatchAutoencoderConfig(patch=2, latent_channels=12))
    clip = pictures(TEST_PHOTOGRAPHS, 4)
    assert psnr(autoencoder.decode(autoencoder.encode(clip)), clip).min() > 45


@torch.no_grad()
def test_a_quarter_of_the_components_keeps_photographs_it_never_saw() -> None:
    autoencoder = fitted(PatchAutoencoderConfig())
    clip = pictures(TEST_PHOTOGRAPHS, 20)
    latents = autoencoder.encode(clip)
    assert latents.shape == (20, 12, 16, 16)
    assert 0.3 < latents.std() < 3
    assert psnr(autoencoder.decode(latents), clip).mean() > 30


@torch.no_grad()
def test_clips_are_pictures_side_by_side() -> None:
    autoencoder = fitted(PatchAutoencoderConfig())
    nn.init.normal_(autoencoder.refine[-1].weight)
    clip = torch.rand(2, 3, 3, 16, 16)
    latents = autoencoder.encode_clip(clip)
    torch.testing.assert_close(latents[:, :, 1], autoencoder.encode(clip[:, :, 1]))
    torch.testing.assert_close(autoencoder.decode_clip(latents)[:, :, 2], autoencoder.decode(latents[:, :, 2]))
