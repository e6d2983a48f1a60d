"""Conditions of a generation, encoded: the one record that generation, training and the nodes pass to the denoiser."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from .model.attention import KnownStreams

# Pixels in [-1, 1] of the picture that stands for "no image": DreamVideo's is white, DynamiCrafter's mid-grey.
WHITE, GREY = 1.0, 0.0


def white(pictures: Tensor) -> Tensor:
    """The null images of a model without image tokens, at the size of these pictures."""
    return torch.full_like(pictures, WHITE)


def grey(pictures: Tensor) -> Tensor:
    """The pictures in [-1, 1] whose image tokens stand for "no image", at the size of these."""
    return torch.full_like(pictures, GREY)


@dataclass(frozen=True)
class GivenImage:
    """The picture to animate, encoded, with what stands for "no image".

    A model with image tokens is told of no image by a mid-grey picture's tokens, and its image latent stays in every
    guidance branch, as DynamiCrafter was trained; any other one gets a white picture, as DreamVideo was.

    Attributes:
        latent: `b c 1 h w`; the host's `1 c h w` without the model's scale factor.
        image_tokens: output of the image projection, `b t k d` for every frame or `b k d` shared by all; None for
            models that do not look at the image this way.
        null_image_tokens: the same of a mid-grey picture.
        pixels: at the video's size, for image retention: `b 3 H W` in [-1, 1]; the host's `1 h w 3` in [0, 1].
        white_latent: latent of a white picture; None with image tokens.
    """

    latent: Tensor
    image_tokens: Tensor | None = None
    null_image_tokens: Tensor | None = None
    pixels: Tensor | None = None
    white_latent: Tensor | None = None

    def without(self) -> "GivenImage":
        """No image, for the branches of a dual guidance."""
        return replace(
            self.without_tokens(),
            latent=self.latent if self.white_latent is None else self.white_latent,
            pixels=None if self.pixels is None else white(self.pixels),  # 1 in either range
        )

    def without_tokens(self) -> "GivenImage":
        """The image of the negative prompt in ordinary guidance: null tokens, the rest as it is."""
        return replace(self, image_tokens=self.null_image_tokens)


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
        reference: a residual model's reference latent, from which its estimates are differences, `b c 1 h w`; found
            once by `Denoiser.prepare`.
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
    reference: Tensor | None = None
    known: dict[int, KnownStreams] | None = field(default=None, compare=False, repr=False)

    @property
    def origin(self) -> Tensor | float:
        """The reference latent, or zero."""
        return 0.0 if self.reference is None else self.reference

    @property
    def first_frame(self) -> Tensor | None:
        """Latent of the given image as frame 0 of a clip, `b c 1 h w`."""
        return None if self.image_latent is None else self.image_latent[:, :, :1]

    def with_image_of(self, other: "Conditions") -> "Conditions":
        """This text with the image of other conditions."""
        names = ("image_latent", "image_tokens", "image", "image_hint", "reference")
        return replace(self, **{name: getattr(other, name) for name in names})


def join_conditions(conditions: Sequence[Conditions]) -> Conditions | None:
    """Concatenate conditions of several batches, clip after clip; None where their shapes do not allow it."""
    joined: dict[str, Any] = {}
    for name in (each.name for each in fields(Conditions) if each.compare):
        values = [getattr(each, name) for each in conditions]
        given = [value for value in values if value is not None]
        if given and (len(given) < len(values) or len({value.shape[1:] for value in given}) > 1):
            return None
        joined[name] = torch.cat(given) if given else None
    return Conditions(**joined)
