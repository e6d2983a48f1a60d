"""Training of a small image-to-video base model: text and first frame in, clip out (metrics of the demo: README)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..conditions import Conditions
from ..denoiser import Denoiser
from ..diffusion.prediction import add_noise, target
from ..model.patch_autoencoder import PatchAutoencoder
from ..model.text_encoder import TextEncoder
from ..model.video_unet import VideoUNet
from ..presets import Preset
from .loop import SaveModules
from .moving_crops import CaptionedClip, MovingCrops


@dataclass(frozen=True)
class VideoTask:
    """Denoise clips given their first frame and caption.

    Half of the time steps are drawn from the noisiest part, where the motion is decided; the text is dropped for one
    clip in ten, the given image never, as in DynamiCrafter.
    """

    unet: VideoUNet
    text_encoder: TextEncoder
    autoencoder: PatchAutoencoder
    data: MovingCrops
    preset: Preset
    write: SaveModules
    text_drop: float = 0.1
    noisy_share: float = 0.5
    noisy_from: float = 0.6  # of the schedule

    @cached_property
    def modules(self) -> nn.ModuleDict:
        """What is trained."""
        return nn.ModuleDict({"unet": self.unet, "text_encoder": self.text_encoder})

    def loss(self, step: int, batch_size: int) -> Tensor:
        clips = [self.data.clip(step * batch_size + i) for i in range(batch_size)]
        denoiser = self.denoiser()
        generator = torch.Generator().manual_seed(step)
        device = next(self.unet.parameters()).device
        latents = self._encode(torch.stack([clip.pixels for clip in clips]).to(device))
        timesteps = self._timesteps(batch_size, generator)
        conditions = self._conditions(clips, latents, generator)
        clean = latents - denoiser.origin(conditions)
        alpha_bar = denoiser.schedule.alpha_bar[timesteps].float().to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        output = denoiser.predict(add_noise(clean, noise, alpha_bar), timesteps.to(device), conditions)
        return F.mse_loss(output.float(), target(denoiser.prediction, clean, noise, alpha_bar))

    def denoiser(self) -> Denoiser:
        """The network as generation will use it."""
        return Denoiser.of(self.unet, self.preset)

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Tensor:
        return self.autoencoder.encode_clip(pixels).float()

    def _conditions(self, clips: list[CaptionedClip], latents: Tensor, generator: torch.Generator) -> Conditions:
        dropped = torch.rand(len(clips), generator=generator) < self.text_drop
        captions = ["" if drop else clip.caption for clip, drop in zip(clips, dropped, strict=True)]
        text, pooled = self.text_encoder.encode(captions)
        return Conditions(text=text, pooled_text=pooled, image_latent=latents[:, :, :1])

    def _timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        low = torch.where(torch.rand(count, generator=generator) < self.noisy_share, self.noisy_from, 0.0)
        position = low + (1 - low) * torch.rand(count, generator=generator)
        return (position * self.preset.schedule.timesteps).long().clamp(max=self.preset.schedule.timesteps - 1)

    def save(self, modules: nn.ModuleDict, path: Path, metadata: dict[str, str]) -> None:
        self.write(modules, path, metadata)
