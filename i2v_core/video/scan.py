"""One pass over all frames of a video at thumbnail size: does everything decode, and where does the scene change?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from .read import open_video
from .sources import Source

THUMBNAIL = (32, 18)  # width, height
NEIGHBORS = 5  # changes on either side that a cut is compared with
STANDS_OUT = 3  # how many times a cut exceeds them


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A decoded frame, small: RGB `h w 3`, its time stamp, whether the decoder had to guess, and the upright
    (height, width) and rotation in degrees of the frame itself."""

    pixels: NDArray[np.uint8]
    pts: int | None
    damaged: bool
    size: tuple[int, int]
    rotation: int


def scan_video(source: Source, threads: int = 0) -> Iterator[Thumbnail]:
    """Decode all frames of a video in display order.

    Raises:
        FileNotFoundError, ValueError: as `index_frames`, or something in between cannot be decoded.
    """
    with open_video(source, threads) as (container, stream):
        for frame in container.decode(stream):
            yield _thumbnail(frame)


def frame_changes(pictures: Iterable[NDArray[np.uint8]]) -> tuple[float, ...]:
    """Mean absolute difference of each picture `h w 3` from the one before, 0 to 1; 0 for the first."""
    changes, before = [], None
    for picture in pictures:
        now = picture.astype(np.float32) / 255
        changes.append(0.0 if before is None else round(float(np.abs(now - before).mean()), 4))
        before = now
    return tuple(changes)


def find_cuts(changes: Sequence[float], threshold: float) -> tuple[int, ...]:
    """Numbers of the frames that begin a new scene, from `frame_changes`.

    A cut changes the picture by at least `threshold`, and much more than the frames around it do: a fast pan changes it
    all the time. Dissolves are no cuts.
    """
    cuts = []
    for i in range(1, len(changes)):
        around = [*changes[max(1, i - NEIGHBORS) : i], *changes[i + 1 : i + 1 + NEIGHBORS]]
        if changes[i] >= threshold and changes[i] >= STANDS_OUT * median(around or [0.0]):
            cuts.append(i)
    return tuple(cuts)


def _thumbnail(frame: av.VideoFrame) -> Thumbnail:
    width, height = THUMBNAIL
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation=Interpolation.AREA)
    turned = round(frame.rotation / 90) % 2
    size = (frame.width, frame.height) if turned else (frame.height, frame.width)
    return Thumbnail(
        small.to_ndarray().astype(np.uint8, copy=False), frame.pts, frame.is_corrupt, size, round(frame.rotation)
    )
