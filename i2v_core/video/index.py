"""Index of the frames of a video file: listed from its packets, or by decoding where their stamps are wrong.

Containers promise more than they keep: AVI stamps frames in the order of decoding; transport streams begin in the
middle of a group of pictures, are joined without new stamps, or carry none. So the first frames are decoded and
compared.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, pairwise

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from .containers import open_video
from .look import PLAIN, Look, look_of
from .sources import Source

CHECKED = 16  # frames that are decoded to see whether the packets tell the truth
Packets = list[tuple[int | None, bool, int]]  # stamp, whether it is a keyframe, duration


@dataclass(frozen=True)
class FrameIndex:
    """Index of a file's frames.

    Attributes:
        pts: of all frames, ascending, in units of `time_base` seconds.
        keyframes: those at which decoding can begin.
        fps: in the mean. duration: in seconds, to the end of the last frame.
        look: how the frames are shown.
        numbers: which decoded frames they are, for files whose stamps are of no use: these are read from the start.
        lost: frames at the beginning that cannot be decoded, and are not listed.
    """

    pts: tuple[int, ...]
    keyframes: tuple[int, ...]
    time_base: Fraction
    fps: Fraction
    duration: Fraction
    look: Look = PLAIN
    numbers: range | None = None
    lost: int = 0

    def __len__(self) -> int:
        return len(self.pts)

    def time(self, frame: int) -> Fraction:
        """Return when a frame appears, in seconds after the first one."""
        return (self.pts[frame] - self.pts[0]) * self.time_base

    def between(self, start: Fraction | float, end: Fraction | float) -> "FrameIndex":
        """Return the frames that appear from `start` on and before `end`, seconds after the first one, as a video of
        their own. Raises ValueError if there are none."""
        chosen = [i for i in range(len(self)) if start <= self.time(i) < end]
        if not chosen:
            raise ValueError(f"no frame lies between {float(start):g} and {float(end):g} s of the video")
        part = slice(chosen[0], chosen[-1] + 1)
        numbers = None if self.numbers is None else self.numbers[part]
        duration = min(Fraction(end), self.duration) - self.time(chosen[0])
        return replace(self, pts=self.pts[part], duration=duration, numbers=numbers)

    def at(self, time: Fraction) -> int:
        """Return the frame on display at a time in seconds after the first one."""
        # Containers round stamps to ticks (Matroska: 1 ms): one may lie half a tick after its true time.
        slack = min(self.time_base / 2, Fraction(1, 1000)) + Fraction(1, 1_000_000)
        return max(bisect_right(self.pts, self.pts[0] + (time + slack) / self.time_base) - 1, 0)

    def notes(self) -> list[str]:
        """Notes for the user on how this file is read; none for most."""
        told = self.look.notes()
        if self.lost:
            told.append(f"{self.lost} frames at the beginning cannot be decoded and are left out")
        if self.numbers is not None:
            told.append("time stamps of no use: frames are counted from the start, which takes longer")
        return told


def as_fps(fps: Fraction | float) -> Fraction:
    """Return frames per second as a fraction with denominator up to 1001, which holds NTSC rates exactly.

    A float within half a thousandth of an NTSC rate means that rate: 23.976 is 24000/1001.
    """
    rate = Fraction(fps).limit_denominator(1001) if math.isfinite(fps) else Fraction(0)
    ntsc = Fraction(round(rate) * 1000, 1001)
    if isinstance(fps, float) and ntsc and abs(fps - ntsc) < 5e-4:
        return ntsc
    if rate <= 0:
        raise ValueError(f"Expected a positive number of frames per second, got {fps}.")
    return rate


def index_frames(path: Source) -> FrameIndex:
    """List the frames of a video file; for the usual ones the first few are decoded, for others all.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a readable video, no video stream that can be decoded, or no frame in it.
    """
    with open_video(path) as (container, stream):
        packets: Packets = [
            (packet.pts, packet.is_keyframe, packet.duration or 0)
            for packet in container.demux(stream)
            if packet.size and not packet.is_discard
        ]
    with open_video(path) as (container, stream):
        first = list(islice(decode(container, stream), CHECKED))
        if not first:
            raise ValueError(f"No frame of '{path}' can be decoded: copy or convert the file again.")
        base, declared = stream.time_base or Fraction(1, 1000), stream.average_rate or stream.guessed_rate
        look = look_of(first, stream.sample_aspect_ratio)
        codec = stream.codec_context.name
    # VP8 has packets that are never shown.
    if codec != "vp8" and _truthful(packets, [frame.pts for frame in first]):
        shown = [(pts, is_keyframe) for pts, is_keyframe, _ in packets]
    else:
        with open_video(path) as (container, stream):
            shown = [(frame.pts if frame.pts is not None else frame.dts, frame.key_frame)
                     for frame in decode(container, stream)]  # fmt: skip
        if not _ascending([pts for pts, _ in shown]):
            return replace(_counted([pts for pts, _ in shown], base, declared), look=look)
    durations = {pts: duration for pts, _, duration in packets}
    pts = tuple(sorted(pts for pts, _ in shown if pts is not None))
    keyframes = tuple(sorted(pts for pts, is_keyframe in shown if is_keyframe and pts is not None))
    span = (pts[-1] - pts[0]) * base
    fps = _mean_rate(len(pts) - 1, span, declared)
    duration = span + (durations.get(pts[-1], 0) * base or 1 / fps)
    lost = len({stamp for stamp, *_ in packets if stamp is not None and stamp < pts[0]})
    return FrameIndex(pts, keyframes or pts[:1], base, fps, duration, look, lost=lost)


def decode(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """The frames of a stream from where the container stands; what cannot be decoded is passed over.

    A beginning in mid-stream gives frames that refer to others which are missing: they are left out.
    """
    begun = False
    for packet in container.demux(stream):
        with suppress(av.error.InvalidDataError):
            for frame in packet.decode():
                begun = begun or not frame.is_corrupt
                if begun:
                    yield frame


def _truthful(packets: Packets, seen: list[int | None]) -> bool:
    """The packets announce just the frames that the decoder gives first."""
    announced = [pts for pts, *_ in packets]
    if any(pts is None for pts in announced) or len(set(announced)) != len(announced):
        return False
    ordered = sorted(pts for pts in announced if pts is not None)
    return ordered[: len(seen)] == seen and (len(seen) == CHECKED or len(ordered) == len(seen))


def _ascending(stamps: list[int | None]) -> bool:
    return all(a is not None and b is not None and a < b for a, b in pairwise([*stamps, math.inf]))


def _counted(stamps: list[int | None], base: Fraction, declared: Fraction | None) -> FrameIndex:
    """An index by number, at the rate that the file declares."""
    count, rate = len(stamps), declared or Fraction(25)
    begin = round(min((pts for pts in stamps if pts is not None), default=0) * base * rate)
    pts = tuple(range(begin, begin + count))
    return FrameIndex(pts, pts[:1], 1 / rate, rate, count / rate, numbers=range(count))


def _mean_rate(steps: int, span: Fraction, declared: Fraction | None) -> Fraction:
    # The declared rate is free of the stamps' rounding, but a mere wish in files with a variable rate.
    if not span:
        return declared or Fraction(1)
    measured = (steps / span).limit_denominator(1001)
    return declared if declared and abs(declared - measured) < measured / 50 else measured
