"""Training of a small image-to-video base model: text and first frame in, clip out (metrics of the demo: README)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..conditions import Conditions
from ..denoiser import Denoiser
from ..diffusion.prediction import Prediction, add_noise, target
from ..diffusion.schedule import Schedule
from ..model.patch_autoencoder import PatchAutoencoder
from .loop import SaveModules
from .moving_crops import CaptionedClip, MovingCrops


@dataclass(frozen=True)
class VideoTask:
    """Denoise clips given their first frame and caption.

    Half of the time steps are drawn from the noisiest part, where the motion is decided; the text is dropped for one
    clip in ten, the given image never, as in DynamiCrafter.
    """

    modules: nn.ModuleDict  # {"unet": VideoUNet, "text_encoder": TextEncoder}
    autoencoder: PatchAutoencoder
    data: MovingCrops
    schedule: Schedule
    prediction: Prediction
    write: SaveModules
    text_drop: float = 0.1
    noisy_share: float = 0.5
    noisy_from: float = 0.6  # of the schedule

    def loss(self, step: int, batch_size: int) -> Tensor:
        clips = [self.data.clip(step * batch_size + i) for i in range(batch_size)]
        generator = torch.Generator().manual_seed(step)
        device = next(self.modules.parameters()).device
        latents = self._encode(torch.stack([clip.pixels for clip in clips]).to(device))
        timesteps = self._timesteps(batch_size, generator)
        alpha_bar = self.schedule.alpha_bar[timesteps].float().to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        z = add_noise(latents, noise, alpha_bar)
        denoiser = Denoiser(self.modules["unet"], self.schedule, self.prediction)
        output = denoiser.predict(z, timesteps.to(device), self._conditions(clips, latents, generator))
        return F.mse_loss(output.float(), target(self.prediction, latents, noise, alpha_bar))

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Tensor:
        return self.autoencoder.encode_clip(pixels).float()

    def _conditions(self, clips: list[CaptionedClip], latents: Tensor, generator: torch.Generator) -> Conditions:
        dropped = torch.rand(len(clips), generator=generator) < self.text_drop
        captions = ["" if drop else clip.caption for clip, drop in zip(clips, dropped, strict=True)]
        text, pooled = self.modules["text_encoder"].encode(captions)
        return Conditions(text=text, pooled_text=pooled, image_latent=latents[:, :, :1])

    def _timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        low = torch.where(torch.rand(count, generator=generator) < self.noisy_share, self.noisy_from, 0.0)
        position = low + (1 - low) * torch.rand(count, generator=generator)
        return (position * self.schedule.config.timesteps).long().clamp(max=self.schedule.config.timesteps - 1)

    def save(self, modules: nn.ModuleDict, path: Path, metadata: dict[str, str]) -> None:
        self.write(modules, path, metadata)
