"""Entries in the host's CONDITIONING."""

from typing import Any

import node_helpers
from torch import Tensor

from ...i2v_core.conditions import GivenImage
from .image_retention import PIXELS
from .model import END_LATENT, FPS, FRAMES, IMAGE_LATENT, IMAGE_TOKENS


def with_given_image(
    conditioning: list[Any], image: GivenImage, frames: int, fps: float | None, end_latent: Tensor | None = None
) -> list[Any]:
    """Copy a CONDITIONING and add what a video model needs besides the text.

    Args:
        image: the given one, or what stands for "no image".
        fps: as the checkpoint means it; None leaves it to the model.
        end_latent: of the picture on the last frame, `1 c h w`, for interpolation.
    """
    values = {IMAGE_LATENT: image.latent, IMAGE_TOKENS: image.image_tokens, FRAMES: frames, FPS: fps}
    values |= {END_LATENT: end_latent, PIXELS: image.pixels}
    known = {key: value for key, value in values.items() if value is not None}
    return node_helpers.conditioning_set_values(conditioning, known)
