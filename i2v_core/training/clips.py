"""Batches of captioned clips with their latents, and the draws that every objective makes on them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditions import Conditions
from ..denoiser import Denoiser
from ..diffusion.prediction import add_noise, target
from ..model.patch_autoencoder import PatchAutoencoder
from ..model.text_encoder import TextEncoder
from .moving_crops import MovingCrops


@dataclass(frozen=True)
class ClipBatch:
    """Clips on the training device: pixels `b c t h w` in [-1, 1], latents `b c t h w`, one caption each."""

    pixels: Tensor
    latents: Tensor
    captions: list[str]


@dataclass(frozen=True)
class ClipSource:
    """Clips of a data set through a frozen autoencoder; batch number `step` depends on the step only."""

    data: MovingCrops
    autoencoder: PatchAutoencoder

    @torch.no_grad()
    def batch(self, step: int, size: int) -> ClipBatch:
        clips = [self.data.clip(step * size + i) for i in range(size)]
        pixels = torch.stack([clip.pixels for clip in clips]).to(next(self.autoencoder.parameters()).device)
        return ClipBatch(pixels, self.autoencoder.encode_clip(pixels).float(), [clip.caption for clip in clips])


@dataclass(frozen=True)
class TimestepConfig:
    """A share of the time steps is drawn from the noisiest part, where the motion is decided."""

    noisy_share: float = 0.5
    noisy_from: float = 0.6  # of the schedule

    def draw(self, count: int, timesteps: int, generator: torch.Generator) -> Tensor:
        """Time steps in [0, timesteps), `b`."""
        low = torch.where(torch.rand(count, generator=generator) < self.noisy_share, self.noisy_from, 0.0)
        position = low + (1 - low) * torch.rand(count, generator=generator)
        return (position * timesteps).long().clamp(max=timesteps - 1)


def drop(count: int, share: float, generator: torch.Generator) -> Tensor:
    """Which of the clips lose a condition, boolean `b`."""
    return torch.rand(count, generator=generator) < share


def noise_clips(
    denoiser: Denoiser, latents: Tensor, timesteps: Tensor, conditions: Conditions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Noise clips `b c t h w` from where the network's latents begin, to the timesteps `b`.

    Returns:
        What the network sees and what it should answer, `b c t h w` each.
    """
    clean = latents - denoiser.origin(conditions)
    alpha_bar = denoiser.schedule.alpha_bar[timesteps].to(latents)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    return add_noise(clean, noise, alpha_bar), target(denoiser.prediction, clean, noise, alpha_bar)


def encode_texts(
    text_encoder: TextEncoder, captions: list[str], dropped: Tensor, image_latent: Tensor | None
) -> Conditions:
    """Conditions of captions, the dropped ones empty, beside the given images' latents `b c 1 h w`."""
    texts = ["" if gone else caption for caption, gone in zip(captions, dropped.tolist(), strict=True)]
    text, pooled = text_encoder.encode(texts)
    return Conditions(text=text, pooled_text=pooled, image_latent=image_latent)
