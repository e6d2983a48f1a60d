"""Training of a small image-to-video base model: text and first frame in, clip out (metrics of the demo: README)."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..denoiser import Denoiser
from ..model.text_encoder import TextEncoder
from ..model.video_unet import VideoUNet
from ..presets import Preset
from .clips import ClipSource, TimestepConfig, drop, encode_texts, noise_clips
from .loop import SaveModules


@dataclass(frozen=True)
class VideoTask:
    """Denoise clips given their caption, and their first frame if the network has channels for it.

    The text is dropped for one clip in ten, the given image never, as in DynamiCrafter.
    """

    unet: VideoUNet
    text_encoder: TextEncoder
    clips: ClipSource
    preset: Preset
    write: SaveModules
    text_drop: float = 0.1
    timesteps: TimestepConfig = field(default_factory=TimestepConfig)

    @cached_property
    def modules(self) -> nn.ModuleDict:
        """What is trained."""
        return nn.ModuleDict({"unet": self.unet, "text_encoder": self.text_encoder})

    def loss(self, step: int, batch_size: int) -> Tensor:
        batch, generator = self.clips.batch(step, batch_size), torch.Generator().manual_seed(step)
        denoiser, latents = Denoiser.of(self.unet, self.preset), batch.latents
        timesteps = self.timesteps.draw(batch_size, self.preset.schedule.timesteps, generator)
        dropped = drop(batch_size, self.text_drop, generator)
        given = latents[:, :, :1] if self.unet.config.in_channels > self.unet.config.out_channels else None
        conditions = encode_texts(self.text_encoder, batch.captions, dropped, given)
        z, wanted = noise_clips(denoiser, latents, timesteps, conditions, generator)
        return F.mse_loss(denoiser.predict(z, timesteps.to(latents.device), conditions).float(), wanted)

    def save(self, modules: nn.ModuleDict, path: Path, metadata: dict[str, str]) -> None:
        self.write(modules, path, metadata)
