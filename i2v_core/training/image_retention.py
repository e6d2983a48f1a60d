"""Training of image retention (DreamVideo, arXiv:2312.03018, sections 4.2 and 4.3): the branch and temporal layers."""

from dataclasses import dataclass, replace

import torch

from ..data.clips import ClipBatch
from ..model.image_retention import WHITE, ImageRetention
from .adapter import Method, is_temporal
from .draws import Draws
from .lesson import ClipLosses, Lesson


@dataclass(frozen=True)
class ImageRetentionOptions:
    """Whether the base's temporal layers are trained along."""

    temporal_layers: bool = True


def loss(lesson: Lesson, batch: ClipBatch, draws: Draws) -> ClipLosses:
    """Denoise clips given caption and image, either of them sometimes missing; a missing image is white."""
    autoencoder = lesson.checkpoint.autoencoder
    assert autoencoder is not None
    timesteps, lost = lesson.timesteps(draws), lesson.lost(draws)
    white = torch.full_like(batch.image, WHITE)
    image = torch.where(lost.image.to(batch.image.device)[:, None, None, None], white, batch.image)
    with torch.no_grad():
        given = autoencoder.encode(image).to(batch.latents)[:, :, None]
    conditions = replace(lesson.conditions(batch, lost, given), image=image)
    z, wanted = lesson.noised(batch.latents, timesteps, conditions, draws)
    return lesson.losses(lesson.predict(z, timesteps, conditions), wanted, timesteps, lost)


def trained_along(name: str, options: ImageRetentionOptions) -> bool:
    """Whether a weight of the base is trained: those of temporal layers."""
    return options.temporal_layers and is_temporal(name)


IMAGE_RETENTION = Method(
    kind="image_retention",
    options=ImageRetentionOptions,
    build=ImageRetention.beside,
    loss=loss,
    trained_along=trained_along,
    image_drop=0.1,
)
