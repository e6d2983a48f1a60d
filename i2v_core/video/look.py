"""Conversion of decoded frames for display: upright, square pixels, deinterlaced, colors of a standard screen."""

from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray

_TRANSFERS = {16: "PQ", 18: "HLG"}  # ITU-T H.273
_WIDEST = 4  # of a pixel against its height, or the other way round; anything beyond is a mistake of the file
Matrix = tuple[int, int, int, int]


@dataclass(frozen=True)
class Look:
    """The conversions that players apply to a file's frames before they show them.

    Attributes:
        height, width: in pixels, after all of it.
        aspect: of a stored pixel, width to height.
        rotation: in degrees counterclockwise, after mirroring.
        mirrored: left and right are exchanged.
        interlaced: a frame holds two moments, in its even and odd lines.
        transfer: "PQ" or "HLG" for HDR, else nothing.
    """

    height: int = 0
    width: int = 0
    aspect: Fraction = Fraction(1)
    rotation: int = 0
    mirrored: bool = False
    interlaced: bool = False
    transfer: str = ""

    def size_of(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Height and width that a decoded frame is shown at."""
        width = square_width(frame, self.aspect)
        return (width, frame.height) if _axes(frame)[2] else (frame.height, width)

    def notes(self) -> list[str]:
        """The conversions in words, for reports."""
        told = {
            f"pixels of {self.aspect.numerator}:{self.aspect.denominator} are made square": self.aspect != 1,
            "mirrored, as players show it": self.mirrored,
            "interlaced: deinterlaced": self.interlaced,
            f"HDR ({self.transfer}): mapped to SDR": self.transfer,
        }
        return [note for note, holds in told.items() if holds]


PLAIN = Look()


def look_of(frames: list[av.VideoFrame], aspect: Fraction | None) -> Look:
    """The look of a file, from its first frames and the aspect ratio of its pixels."""
    frame, shape = frames[0], Fraction(aspect or 1)
    if not Fraction(1, _WIDEST) <= shape <= _WIDEST:
        shape = Fraction(1)
    across, down, turned = _axes(frame)
    height, width = Look(aspect=shape).size_of(frame)
    return Look(
        height=height,
        width=width,
        aspect=shape,
        rotation=_degrees(across, down, turned),
        mirrored=(across < 0) != (down < 0) if not turned else (across < 0) == (down < 0),
        interlaced=any(each.interlaced_frame for each in frames),
        transfer=_TRANSFERS.get(int(frame.color_trc), ""),
    )


def square_width(frame: av.VideoFrame, aspect: Fraction) -> int:
    """Width of a stored frame after its pixels have become square."""
    return max(round(frame.width * aspect), 1)


def upright(pixels: NDArray[np.uint8], frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Turn and mirror `h w c` as the display matrix of the frame says, to the nearest quarter turn."""
    across, down, turned = _axes(frame)
    if turned:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def _axes(frame: av.VideoFrame) -> tuple[int, int, bool]:
    """Directions of the shown columns and rows, and whether they are the stored rows and columns."""
    a, b, c, d = _matrix(frame)
    return (c, b, True) if abs(a) + abs(d) < abs(b) + abs(c) else (a, d, False)


def _matrix(frame: av.VideoFrame) -> Matrix:
    """The part of the display matrix that turns: a point (x, y) is shown at (a x + c y, b x + d y)."""
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(cast(bytes, found), np.int32).tolist()
    return a, b, c, d


def _degrees(across: int, down: int, turned: bool) -> int:
    if turned:
        return 90 if down < 0 else -90
    return 180 if down < 0 else 0
