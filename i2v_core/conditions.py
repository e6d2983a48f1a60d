"""What a user gave, encoded: the one record that generation, training and the nodes pass to the denoiser."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from .model.attention import KnownStreams


@dataclass(frozen=True)
class Conditions:
    """Encoded text and given image of `b` clips.

    Attributes:
        text: text tokens, `b n d`.
        pooled_text: one vector of the text, `b d`; only for models that have it.
        image_latent: latent of the given image, `b c 1 h w`, or of every frame, `b c t h w`; None without one.
        image_tokens: `b t k d` for every frame or `b k d` shared by all.
        fps: frames per second or frame stride, as the checkpoint means it, `b`.
        image: pixels of the given image in [-1, 1] for image retention, white where there is none, `b 3 H W`.
        image_hint: what image retention sees of it, `b c h w`; found once by `Denoiser.prepare`.
        known: keys and values of the tokens by the number of frames, found at the first step of a sampling run, during
            which no weight changes; None finds them at every step.
    """

    text: Tensor
    pooled_text: Tensor | None = None
    image_latent: Tensor | None = None
    image_tokens: Tensor | None = None
    fps: Tensor | None = None
    image: Tensor | None = None
    image_hint: Tensor | None = None
    known: dict[int, KnownStreams] | None = field(default=None, compare=False, repr=False)


def join_conditions(conditions: Sequence[Conditions]) -> Conditions | None:
    """Put conditions of several batches into one, clip after clip; None where their shapes do not allow it."""
    joined: dict[str, Any] = {}
    for name in (each.name for each in fields(Conditions) if each.compare):
        values = [getattr(each, name) for each in conditions]
        given = [value for value in values if value is not None]
        if given and (len(given) < len(values) or len({value.shape[1:] for value in given}) > 1):
            return None
        joined[name] = torch.cat(given) if given else None
    return Conditions(**joined)
