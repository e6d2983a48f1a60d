"""Entries in the host's CONDITIONING."""

from typing import Any

import node_helpers
from torch import Tensor

from ..sockets import GivenImage
from .image_retention import with_pixels
from .model import END_LATENT, FPS, FRAMES, IMAGE_LATENT, IMAGE_TOKENS


def with_given_image(
    conditioning: list[Any],
    latent: Tensor,
    image_tokens: Tensor | None,
    frames: int,
    fps: float | None,
    end_latent: Tensor | None = None,
) -> list[Any]:
    """Copy a CONDITIONING and add what a video model needs besides the text.

    Args:
        latent: the given image's, `1 c h w`.
        image_tokens: `1 t k d` or `1 k d`.
        fps: as the checkpoint means it; None leaves it to the model.
        end_latent: of the picture on the last frame, `1 c h w`, for interpolation.
    """
    values = {IMAGE_LATENT: latent, IMAGE_TOKENS: image_tokens, FRAMES: frames, FPS: fps}
    values[END_LATENT] = end_latent
    known = {key: value for key, value in values.items() if value is not None}
    return node_helpers.conditioning_set_values(conditioning, known)


def with_whole_image(conditioning: list[Any], image: GivenImage, frames: int, fps: float | None) -> list[Any]:
    """Copy a CONDITIONING and add all that a given image brings; for "no image", that of `GivenImage.without`."""
    seen = with_pixels(conditioning, image.pixels)
    return with_given_image(seen, image.latent, image.image_tokens, frames, fps)
