"""One pass over all frames of a video at thumbnail size: does everything decode, and where does the scene change?"""

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from .index import FrameIndex
from .read import numbered_frames
from .sources import Source

THUMBNAIL = (32, 18)  # width, height
NEIGHBORS = 5  # changes on either side that a cut is compared with
STANDS_OUT = 3  # how many times a cut exceeds them


def scan_video(source: Source, index: FrameIndex, threads: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Decode all frames of a video in display order, at thumbnail size: RGB `h w 3`.

    Raises:
        FileNotFoundError, ValueError: as `numbered_frames`, or a frame that the decoder had to guess.
    """
    width, height = THUMBNAIL
    for number, frame in numbered_frames(source, index, range(len(index)), threads):
        if frame.is_corrupt:
            raise ValueError(f"Frame {number} of '{source}' is damaged: copy or convert the file again.")
        small = frame.reformat(width=width, height=height, format="rgb24", interpolation=Interpolation.AREA)
        yield small.to_ndarray().astype(np.uint8, copy=False)


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
