"""A given picture beside the video that was made of it, both large enough to be looked at."""

import torch
from torch import Tensor

from .frames import fit_image, to_bytes

SIDE = 384


def side_by_side(picture: Tensor, frames: Tensor, side: int = SIDE) -> Tensor:
    """Lay a picture to the left of every frame.

    Args:
        picture: `h w c`, uint8 or in [0, 1]; cropped to the frames' shape.
        frames: `t h w c`, uint8 or in [0, 1].
        side: height of the result in pixels.

    Returns:
        uint8, `t side 2*width 3`.
    """
    height, width = frames.shape[1:3]
    wide = max(1, round(side * width / height))
    given, shown = fit_image(to_bytes(picture), side, wide), fit_image(to_bytes(frames), side, wide)
    return torch.cat([given.expand(len(shown), -1, -1, -1), shown], dim=2)
