"""Training of the patch autoencoder's cleaning network, on noisy latents; encoder and decoder stay as fitted."""

from dataclasses import dataclass

import torch
from einops import reduce

from ..data.clips import ClipBatch, ClipData
from ..model.patch_autoencoder import PatchAutoencoder
from ..weights.files import write_tensors
from .config import TrainingConfig
from .engine import TrainingTask
from .objective import ClipLosses, Objective
from .per_clip_random import PerClipRandom

LARGEST_NOISE = 0.25


@dataclass(frozen=True)
class RefineOptions:
    """Steps and learning rate of the cleaning network."""

    max_train_steps: int = 400
    train_batch_size: int = 16
    learning_rate: float = 1e-3
    lr_warmup_steps: int = 50
    ema_decay: float = 0.99


def refine_task(autoencoder: PatchAutoencoder, data: ClipData, config: TrainingConfig) -> TrainingTask:
    """Restore given frames from latents with noise: what a sampler leaves behind must not show as grain."""

    def loss(batch: ClipBatch, draws: PerClipRandom) -> ClipLosses:
        latents = autoencoder.encode(batch.image)
        level = LARGEST_NOISE * draws.uniform()[:, None, None, None]
        noise = (level * draws.normal(latents.shape[1:])).to(latents)
        restored = autoencoder.decode(latents + noise).float()
        plain = reduce((restored - batch.image) ** 2, "b ... -> b", "mean")
        weighted = plain + 0.2 * reduce((restored - batch.image).abs(), "b ... -> b", "mean")
        none = torch.zeros(len(plain))
        return ClipLosses(weighted, plain.detach(), none, none, none)

    autoencoder.requires_grad_(False)
    autoencoder.refine.requires_grad_(True)
    objective = Objective({"refine": autoencoder.refine}, loss, config.train.seed)
    return TrainingTask("autoencoder", objective, data, autoencoder, write_tensors, companions=(autoencoder,))
