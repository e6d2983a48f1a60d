"""The one reader of picture files, for the command line, nodes, training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..files import StrPath
from ..unusable import UnusableError, explained

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 1 << 27  # pixels; beyond lies no camera, and a file of some kilobytes can claim any number


def read_picture(path: StrPath) -> Tensor:
    """A picture file upright (EXIF), in 8 bits: `h w c` in uint8, RGB, or RGBA if it has any transparency.

    16 bits are rounded to 8; floating point counts from 0 to 1.

    Raises:
        FileNotFoundError, PermissionError: the file cannot be opened.
        UnusableError: no picture, a damaged one, one of more than `LARGEST` pixels (which is seen before decoding), or
            numbers without a scale.
    """
    from PIL import ImageOps

    with _opened(path) as image:
        return torch.from_numpy(_bytes(path, ImageOps.exif_transpose(image)))


def picture_size(path: StrPath) -> tuple[int, int]:
    """Height and width of a picture file as `read_picture` gives it, from its header. Raises as `read_picture`."""
    with _opened(path) as image:
        width, height = image.size
        return (width, height) if image.getexif().get(_ORIENTATION, 1) > 4 else (height, width)


_ORIENTATION = 0x0112  # of EXIF: 5 to 8 are turned by a quarter


@contextmanager
def _opened(path: StrPath) -> Iterator[Image]:
    """The picture with nothing decoded yet, if it is not too large."""
    from PIL import Image

    with explained(path, "a picture"):
        try:
            image = Image.open(path)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UnusableError(f"'{path}' has too many pixels to decode: make it smaller first.") from error
        with image:
            width, height = image.size
            if width * height > LARGEST:
                raise UnusableError(f"'{path}' has {width}x{height} pixels, too many to decode: make it smaller first.")
            yield image


def _bytes(path: StrPath, image: Image) -> np.ndarray:
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(path, np.asarray(image), image.mode)
    transparent = "A" in image.getbands() or "transparency" in image.info
    return np.array(image.convert("RGBA" if transparent else "RGB"))


def _scaled(path: StrPath, grey: np.ndarray, mode: str) -> np.ndarray:
    """One channel of floating point from 0 to 1, or of 16 bits, in 8 bits and three channels."""
    full = 1 if mode == "F" else 65535
    lowest, highest = float(grey.min()), float(grey.max())
    if not (lowest >= 0 and highest <= full):
        raise UnusableError(
            f"'{path}' holds numbers from {lowest:g} to {highest:g}, expected 0 to {full}: save it as 8 or 16 bits."
        )
    scaled = np.rint(grey.astype(np.float64) / full * 255).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, axis=2)
