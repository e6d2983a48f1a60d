"""Videos whose frames show their own number as eight bright or dark bars."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

COUNT = 90
MILLISECONDS = Fraction(1, 1000)
GAPS = np.random.default_rng(0).integers(5, 120, COUNT).cumsum()  # ms, a variable frame rate


def numbered(number: int) -> np.ndarray:
    bits = [235 if number >> bit & 1 else 20 for bit in range(8)]
    return np.repeat(np.repeat(np.array(bits, np.uint8)[None], 64, 0), 16, 1)[..., None].repeat(3, -1)


def numbers(frames: Tensor) -> list[int]:
    bars = frames.float().mean((1, 3)).unflatten(-1, (8, 16)).mean(-1) > 128
    return [sum(1 << bit for bit, bright in enumerate(row) if bright) for row in bars.tolist()]


def record(
    path: Path,
    codec: str = "libx264",
    stamp: Callable[[int], int] = lambda i: i,
    base: Fraction = Fraction(1, 30),
    pixels: str = "yuv420p",
    rotation: int = 0,
    mirrored: bool = False,
    picture: Callable[[int], np.ndarray] = numbered,
    **options: str,
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 64, pixels
        stream.codec_context.time_base = base
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)  # mirrors what was turned
        for i in range(COUNT):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = stamp(i), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
