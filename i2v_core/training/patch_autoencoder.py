"""Training of the patch autoencoder's cleaning network, on noisy latents; encoder and decoder stay as fitted."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.patch_autoencoder import PatchAutoencoder
from .loop import SaveModules
from .moving_crops import MovingCrops


@dataclass(frozen=True)
class RefineTask:
    """Restore single frames from latents with noise: what a sampler leaves behind must not show as grain."""

    modules: nn.ModuleDict  # {"refine": the autoencoder's cleaning network}
    autoencoder: PatchAutoencoder
    data: MovingCrops
    write: SaveModules
    largest_noise: float = 0.25

    def loss(self, step: int, batch_size: int) -> Tensor:
        device = next(self.modules.parameters()).device
        clips = [self.data.clip(step * batch_size + i).pixels[:, 0] for i in range(batch_size)]
        pixels = torch.stack(clips).to(device)
        generator = torch.Generator().manual_seed(step)
        latents = self.autoencoder.encode(pixels)
        level = self.largest_noise * torch.rand(batch_size, 1, 1, 1, generator=generator)
        noise = level * torch.randn(latents.shape, generator=generator)
        restored = self.autoencoder.decode(latents + noise.to(latents))
        return F.mse_loss(restored.float(), pixels) + 0.2 * F.l1_loss(restored.float(), pixels)

    def save(self, modules: nn.ModuleDict, path: Path, metadata: dict[str, str]) -> None:
        self.write(modules, path, metadata)
