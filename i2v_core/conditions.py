"""What a user gave, encoded: the one record that generation, training and the nodes pass to the denoiser."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """Encoded text and given image of `b` clips.

    Attributes:
        text: text tokens, `b n d`.
        pooled_text: one vector of the text, `b d`; only for models that have it.
        image_latent: latent of the given image, `b c 1 h w`, or of every frame, `b c t h w`; None without one.
        image_tokens: `b t k d` for every frame or `b k d` shared by all.
        fps: frames per second or frame stride, as the checkpoint means it, `b`.
    """

    text: Tensor
    pooled_text: Tensor | None = None
    image_latent: Tensor | None = None
    image_tokens: Tensor | None = None
    fps: Tensor | None = None


def join_conditions(first: Conditions, second: Conditions) -> Conditions:
    """Conditions of the clips of both.

    Raises ValueError if a condition is present in one of them only, or has another shape.
    """
    joined: dict[str, Tensor | None] = {}
    for name in (field.name for field in fields(Conditions)):
        a, b = getattr(first, name), getattr(second, name)
        if (a is None) != (b is None) or (a is not None and a.shape[1:] != b.shape[1:]):
            shapes = " and ".join("none" if value is None else str(tuple(value.shape)) for value in (a, b))
            raise ValueError(f"conditions of two guidance branches must be alike, but their {name} are {shapes}")
        joined[name] = None if a is None else torch.cat([a, b])
    return Conditions(**joined)  # type: ignore[arg-type]
