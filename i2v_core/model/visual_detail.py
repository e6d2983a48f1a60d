"""Visual detail guidance of DynamiCrafter (arXiv:2310.12190, section 3.2): the image's latent beside the noised clip.

A base made for it has channels for the latent; an adapter brings it to the first convolution of one that has not.
"""

from typing import Any

import torch
from torch import Tensor, nn


def with_image_latent(z: Tensor, image_latent: Tensor | None, in_channels: int) -> Tensor:
    """Concatenate the given image's latent `b c 1 h w` or `b c t h w` to the channels of `z`, in every frame.

    The image latent is never noised.

    Raises ValueError if the channels of both are not those of the network.
    """
    missing = in_channels - z.shape[1]
    given = 0 if image_latent is None else image_latent.shape[1]
    if missing != given:
        raise ValueError(
            f"the network takes {in_channels} channels: {z.shape[1]} of the noised clip and {missing} of the given "
            f"image; the image latent has {given}"
        )
    if image_latent is None:
        return z
    return torch.cat([z, image_latent.to(z).expand(-1, -1, z.shape[2], -1, -1)], dim=1)


def first_and_last(first: Tensor, last: Tensor, frames: int) -> Tensor:
    """Lay the latents of two images, `b c 1 h w` each, on the first and the last frame, with zeros between.

    This is how the interpolation weights of DynamiCrafter see them, `b c t h w`; the same image twice makes a loop,
    whose last frame repeats its first.

    Raises ValueError for latents of different shapes or fewer than two frames.
    """
    if first.shape != last.shape:
        raise ValueError(f"the two images' latents must be of one shape, got {tuple(first.shape)}, {tuple(last.shape)}")
    if frames < 2:
        raise ValueError(f"a first and a last frame are at least 2 frames, got {frames}")
    between = first.new_zeros(*first.shape[:2], frames - 2, *first.shape[3:])
    return torch.cat([first, between, last.to(first)], dim=2)


def added_image_channels(latent_channels: int, model_channels: int, operations: Any, **factory: Any) -> nn.Module:
    """The share of further input channels in a base's first convolution, as a convolution of its own.

    A convolution over concatenated channels is the sum of one over the clip's and one over the image's.
    """
    return operations.Conv2d(latent_channels, model_channels, 3, padding=1, bias=False, **factory)
