"""Training of image retention (DreamVideo, arXiv:2312.03018, sections 4.2 and 4.3): the branch and temporal layers."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..denoiser import Denoiser
from ..model.image_retention import WHITE, ImageRetention
from ..weights import Checkpoint
from .adapter import Method, Objective, is_temporal
from .clips import ClipBatch, TimestepConfig, drop, encode_texts, noise_clips

logger = logging.getLogger("i2v_core.training")

LOGGED_CLIPS = 1600


@dataclass(frozen=True)
class ImageRetentionOptions:
    """How often a clip loses its text, and how often its image becomes white.

    Attributes:
        text_drop, image_drop: shares of the clips that lose the one or the other; with `drops` "independent" (as the
            paper has it) the product of the two loses both.
        drops: "exclusive" draws one fate for each clip: text lost, image lost, or both with the share `both_drop`.
        temporal_layers: train the base's temporal layers along.
    """

    text_drop: float = 0.1
    image_drop: float = 0.1
    drops: Literal["independent", "exclusive"] = "independent"
    both_drop: float = 0.05
    temporal_layers: bool = True
    timesteps: TimestepConfig = field(default_factory=TimestepConfig)

    def draw(self, clips: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Which clips lose their text and which their image, boolean `b` each."""
        if self.drops == "independent":
            return drop(clips, self.text_drop, generator), drop(clips, self.image_drop, generator)
        fate = torch.rand(clips, generator=generator)
        both = fate < self.both_drop
        text = fate < self.both_drop + self.text_drop
        image = both | (~text & (fate < self.both_drop + self.text_drop + self.image_drop))
        return text, image


def image_retention_objective(
    checkpoint: Checkpoint, branch: ImageRetention, options: ImageRetentionOptions
) -> Objective:
    """Denoise clips given caption and first frame, either of them sometimes missing."""
    assert checkpoint.text_encoder is not None and checkpoint.autoencoder is not None
    text_encoder, autoencoder = checkpoint.text_encoder, checkpoint.autoencoder
    denoiser = replace(Denoiser.of(checkpoint.unet, checkpoint.preset), image_retention=branch)
    count = count_drops()

    def objective(batch: ClipBatch, generator: torch.Generator) -> Tensor:
        latents, clips = batch.latents, len(batch.captions)
        timesteps = options.timesteps.draw(clips, checkpoint.preset.schedule.timesteps, generator)
        no_text, no_image = options.draw(clips, generator)
        count(no_text, no_image)
        image = batch.pixels[:, :, 0]
        image = torch.where(no_image.to(image.device)[:, None, None, None], torch.full_like(image, WHITE), image)
        with torch.no_grad():
            given = autoencoder.encode(image).to(latents)[:, :, None]
        conditions = replace(encode_texts(text_encoder, batch.captions, no_text, given), image=image)
        z, wanted = noise_clips(denoiser, latents, timesteps, conditions, generator)
        return F.mse_loss(denoiser.predict(z, timesteps.to(latents.device), conditions).float(), wanted)

    return objective


def count_drops() -> Callable[[Tensor, Tensor], None]:
    """A counter of lost texts and images that logs their rates now and then."""
    counts: Counter[str] = Counter()

    def count(no_text: Tensor, no_image: Tensor) -> None:
        before = counts["clips"]
        counts.update(
            clips=len(no_text),
            text=int(no_text.sum()),
            image=int(no_image.sum()),
            both=int((no_text & no_image).sum()),
        )
        if before // LOGGED_CLIPS < counts["clips"] // LOGGED_CLIPS:
            rates = ", ".join(f"{name} {counts[name] / counts['clips']:.3f}" for name in ("text", "image", "both"))
            logger.info("lost by %d clips: %s", counts["clips"], rates)

    return count


def _trained_along(name: str, options: ImageRetentionOptions) -> bool:
    return options.temporal_layers and is_temporal(name)


IMAGE_RETENTION = Method(
    options=ImageRetentionOptions,
    build=ImageRetention.beside,
    objective=image_retention_objective,
    trained_along=_trained_along,
)
