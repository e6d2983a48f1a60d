"""Choice of the frames that make a clip: by number or by time, and never over a scene cut."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import torch

from ..video import FrameIndex, as_fps
from .clip import integer
from .config import DataConfig

Shot = tuple[int, int]


@dataclass(frozen=True)
class ClipWindow:
    """The frames of one clip, how many of them there are a second (None: nobody knows), and their stride by number."""

    frames: tuple[int, ...]
    fps: float | None
    stride: int | None = None


@dataclass(frozen=True)
class Timeline:
    """The frames of a file that may be used: stretches `[first, end)` without a cut inside."""

    index: FrameIndex
    shots: tuple[Shot, ...]
    timed: bool = True

    def row(self, frame: int) -> int:
        """Index among the usable frames, counted from 0."""
        before = 0
        for first, end in self.shots:
            if first <= frame < end:
                return before + frame - first
            before += end - first
        raise ValueError(f"frame {frame} is in none of the shots {self.shots}")

    def frames(self) -> list[int]:
        """All usable frames."""
        return [frame for first, end in self.shots for frame in range(first, end)]


def make_timeline(index: FrameIndex, cuts: Sequence[int], run_frames: int = 0, timed: bool = True) -> Timeline:
    """Cut a file at its cuts; with `run_frames`, keep that many frames from the middle of the longest shot."""
    shots = list(pairwise([0, *cuts, len(index)]))
    if run_frames and run_frames < len(index):
        first, end = max(shots, key=lambda shot: shot[1] - shot[0])
        first += max(end - first - run_frames, 0) // 2
        shots = [(first, min(end, first + run_frames))]
    return Timeline(index, tuple(shots), timed)


def starts(timeline: Timeline, frames: int, stride: int, fps: Fraction | None) -> list[range]:
    """Possible first frames of a clip of `frames` frames in each shot: every `stride`-th or, given fps, by time."""
    if fps is None:
        span = (frames - 1) * stride + 1
        return [range(first, max(first, end - span + 1)) for first, end in timeline.shots]
    index, found = timeline.index, []
    for first, end in timeline.shots:
        # Each frame is on display for its part of a second: the last one asked for has half of it left.
        latest = (index.time(end) if end < len(index) else index.duration) - (frames - Fraction(1, 2)) / fps
        found.append(range(first, bisect_right(range(first, end), latest, key=index.time) + first))
    return found


def admissible_strides(timeline: Timeline, config: DataConfig) -> list[int]:
    """The strides with which some clip fits; with `target_fps`, [1] if one fits. Empty: the file is too short."""
    fps = None if config.target_fps is None else as_fps(config.target_fps)
    return [stride for stride in config.strides if any(map(len, starts(timeline, config.frames, stride, fps)))]


def draw_window(timeline: Timeline, config: DataConfig, generator: torch.Generator) -> ClipWindow:
    """Draw a clip: first the stride, then any of the places where it fits, all alike.

    Raises ValueError if none fits.
    """
    strides = admissible_strides(timeline, config)
    if not strides:
        raise ValueError(f"no {config.frames} frames fit into any shot of {timeline.shots}")
    stride = strides[integer(generator, len(strides))]
    fps = None if config.target_fps is None else as_fps(config.target_fps)
    places = starts(timeline, config.frames, stride, fps)
    chosen = integer(generator, sum(map(len, places)))
    for place in places:
        if chosen < len(place):
            break
        chosen -= len(place)
    return _window(timeline, place[chosen], config.frames, stride, fps)


def _window(timeline: Timeline, first: int, frames: int, stride: int, fps: Fraction | None) -> ClipWindow:
    index = timeline.index
    if fps is not None:
        return ClipWindow(tuple(index.at(index.time(first) + i / fps) for i in range(frames)), float(fps))
    chosen = tuple(range(first, first + (frames - 1) * stride + 1, stride))
    if not timeline.timed:
        return ClipWindow(chosen, None, stride)
    span = index.time(chosen[-1]) - index.time(chosen[0])
    # The mean rate of these very frames: that of the whole file differs where it varies.
    return ClipWindow(chosen, float((frames - 1) / span) if span else float(index.fps / stride), stride)
