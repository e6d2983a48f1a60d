"""Reading video files, frame by frame exactly.

A frame is addressed by its presentation time stamp (pts), never by an average rate: on files with a variable
frame rate the average finds the wrong frames.
"""

import math
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import av
import torch
from av.codec.context import ThreadType
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from torch import Tensor

from .color import to_rgb_array
from .frames import FitMode, fit_image
from .sources import Source


@dataclass(frozen=True)
class FrameIndex:
    """Where the frames of a file lie: `pts` of all frames and of the keyframes (ascending, in units of
    `time_base` seconds), the average `fps`, and the `duration` in seconds to the end of the last frame."""

    pts: tuple[int, ...]
    keyframes: tuple[int, ...]
    time_base: Fraction
    fps: Fraction
    duration: Fraction

    def __len__(self) -> int:
        return len(self.pts)

    def time(self, frame: int) -> Fraction:
        """Return when a frame appears, in seconds after the first one."""
        return (self.pts[frame] - self.pts[0]) * self.time_base

    def between(self, start: Fraction | float, end: Fraction | float) -> "FrameIndex":
        """Return the frames that appear from `start` on and before `end`, seconds after the first one, as a video of
        their own. Raises ValueError if there are none."""
        chosen = tuple(pts for i, pts in enumerate(self.pts) if start <= self.time(i) < end)
        if not chosen:
            raise ValueError(f"no frame lies between {float(start):g} and {float(end):g} s of the video")
        begin = (chosen[0] - self.pts[0]) * self.time_base
        return replace(self, pts=chosen, duration=min(Fraction(end), self.duration) - begin)

    def at(self, time: Fraction) -> int:
        """Return the frame on display at a time in seconds after the first one."""
        # Containers round stamps to ticks (Matroska: 1 ms): one may lie half a tick after its true time.
        slack = min(self.time_base / 2, Fraction(1, 1000)) + Fraction(1, 1_000_000)
        return max(bisect_right(self.pts, self.pts[0] + (time + slack) / self.time_base) - 1, 0)


@dataclass(frozen=True, eq=False)
class Clip:
    """Decoded frames: pictures `t h w c` in RGB uint8 (a quarter of float32's memory; `frames_to_clip` makes
    what models take), frames per second, and the time of each in seconds after the file's first frame."""

    frames: Tensor
    fps: Fraction
    times: tuple[float, ...]


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
    """List the frames of a video file; the usual formats need no decoding for it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a readable video, no video stream, or no time stamps.
    """
    with open_video(path) as (container, stream):
        listed = [
            (packet.pts, packet.is_keyframe, packet.duration or 0)
            for packet in container.demux(stream)
            if packet.size and not packet.is_discard
        ]
        base, average = stream.time_base, stream.average_rate
        codec = stream.codec_context.name
    # VP8 has packets that are never shown, old AVI files have packets without stamps: only decoding tells.
    if codec == "vp8" or any(pts is None for pts, _, _ in listed):
        with open_video(path) as (container, stream):
            listed = [(frame.pts, frame.key_frame, 0) for frame in container.decode(stream)]
    durations = {pts: duration for pts, _, duration in listed if pts is not None}
    if not durations or base is None:
        raise ValueError(f"'{path}' holds no frames with time stamps. Convert it to mp4 first.")
    pts = tuple(sorted(durations))
    keyframes = tuple(sorted({pts for pts, is_keyframe, _ in listed if is_keyframe and pts is not None}))
    span = (pts[-1] - pts[0]) * base
    fps = _mean_rate(len(pts) - 1, span, average)
    return FrameIndex(pts, keyframes or pts[:1], base, fps, span + (durations[pts[-1]] * base or 1 / fps))


def read_frames(
    path: Source,
    indices: Sequence[int],
    *,
    index: FrameIndex | None = None,
    size: tuple[int, int] | None = None,
    mode: FitMode = "crop",
    threads: int = 0,
) -> Clip:
    """Read exactly these frames, counted from 0 in display order; any order, repetitions allowed.

    Args:
        indices: frame numbers.
        index: `index_frames(path)`, to save that pass over the file.
        size: (height, width) that each frame is fitted to as it is decoded, see `fit_image`.
        threads: of the decoder; 0 lets it choose, data-loader workers want 1.

    Raises:
        FileNotFoundError, ValueError: as `index_frames`, a number outside the file, or a damaged frame.
    """
    index = index or index_frames(path)
    once = sorted(set(indices))
    pictures = dict(
        zip(once, stream_frames(path, once, index=index, size=size, mode=mode, threads=threads), strict=True)
    )
    frames = torch.stack([pictures[i] for i in indices])
    return Clip(frames, index.fps, tuple(float(index.time(i)) for i in indices))


def stream_frames(
    path: Source,
    indices: Sequence[int],
    *,
    index: FrameIndex | None = None,
    size: tuple[int, int] | None = None,
    mode: FitMode = "crop",
    threads: int = 0,
) -> Iterator[Tensor]:
    """Yield these frames one by one, `h w c`, so that memory does not grow with their number.

    Args:
        indices: frame numbers in ascending order, each once.
        index, size, mode, threads: as `read_frames`.

    Raises:
        FileNotFoundError, ValueError: as `read_frames`.
    """
    index = index or index_frames(path)
    if not indices or min(indices) < 0 or max(indices) >= len(index):
        raise ValueError(f"'{path}' has the frames 0 to {len(index) - 1}, asked for {list(indices)}.")
    stamps, done = [index.pts[i] for i in indices], 0
    for pts, frame in _decode(path, index, stamps, threads):
        if pts != stamps[done]:
            break
        done += 1
        picture = torch.from_numpy(to_rgb_array(frame))
        yield picture if size is None else fit_image(picture, *size, mode)
    if done < len(stamps):
        raise ValueError(f"Frame {indices[done]} of '{path}' cannot be decoded: copy or convert the file again.")


def read_video(
    path: Source,
    *,
    start: float = 0.0,
    frames: int | None = None,
    fps: Fraction | float | None = None,
    stride: int = 1,
    from_end: bool = False,
    size: tuple[int, int] | None = None,
    mode: FitMode = "crop",
    index: FrameIndex | None = None,
    threads: int = 0,
) -> Clip:
    """Read a stretch of a video.

    Args:
        start, frames, fps, stride, from_end: which frames, see `select_frames`.
        size, mode, index, threads: as `read_frames`.

    Raises:
        FileNotFoundError, ValueError: as `read_frames`, or a stretch that is not in the file.
    """
    index = index or index_frames(path)
    try:
        chosen, rate = select_frames(index, start=start, frames=frames, fps=fps, stride=stride, from_end=from_end)
    except ValueError as error:
        raise ValueError(f"'{path}': {error}") from error
    return replace(read_frames(path, chosen, index=index, size=size, mode=mode, threads=threads), fps=rate)


def select_frames(
    index: FrameIndex,
    *,
    start: float = 0.0,
    frames: int | None = None,
    fps: Fraction | float | None = None,
    stride: int = 1,
    from_end: bool = False,
) -> tuple[Sequence[int], Fraction]:
    """Choose a stretch of a video: every `stride`-th frame or, given `fps`, the one on display at each sample.

    Args:
        start: seconds after the first frame; the frame on display there comes first.
        frames: how many; None takes all to the end.
        fps: samples per second; above the file's own rate frames repeat. Not together with `stride`.
        from_end: count backwards: the last frame taken is the one on display `start` seconds before the end, where
            0 is the last of all, and None takes all from the beginning.

    Returns:
        Frame numbers in ascending order, and how many of them are shown a second.

    Raises:
        ValueError: a stretch that is not in the file.
    """
    if (frames is not None and frames < 1) or stride < 1 or (fps is not None and stride != 1):
        raise ValueError(
            "Expected at least one frame, a stride of at least 1, and either fps or a stride, "
            f"got frames={frames}, stride={stride}, fps={fps}."
        )
    if not 0 <= start < index.duration:
        raise ValueError(f"Expected a start within the video, 0 to {float(index.duration):.3f} s, got {start} s.")
    rate = index.fps / stride if fps is None else as_fps(fps)
    begin = Fraction(start)
    if from_end:
        last = min(index.at(index.duration - begin), len(index) - 1) if start else len(index) - 1
        selected = _before(index, last, stride, None if fps is None else rate)
    else:
        selected = _stretch(index, begin, stride) if fps is None else _sampled(index, begin, rate)
    if frames is not None and len(selected) < frames:
        raise ValueError(
            f"The video holds {len(selected)} such frames {'up to' if from_end else 'from'} {start} s "
            f"{'before its end' if from_end else 'on'}, asked for {frames}. "
            "Ask for fewer frames, a smaller stride, a higher fps or another start."
        )
    return (selected[-frames:] if from_end and frames else selected[:frames]), rate


def _mean_rate(steps: int, span: Fraction, declared: Fraction | None) -> Fraction:
    # The declared rate is free of the stamps' rounding, but a mere wish in files with a variable rate.
    if not span:
        return declared or Fraction(1)
    measured = (steps / span).limit_denominator(1001)
    return declared if declared and abs(declared - measured) < measured / 50 else measured


def _stretch(index: FrameIndex, start: Fraction, stride: int) -> Sequence[int]:
    return range(index.at(start), len(index), stride)


def _sampled(index: FrameIndex, start: Fraction, rate: Fraction) -> Sequence[int]:
    # Rounded, since the end is only known to a tick: a clip of 16 frames keeps 16 when read at its own rate.
    samples = max(1, round((index.duration - start) * rate))
    return [index.at(start + i / rate) for i in range(samples)]


def _before(index: FrameIndex, last: int, stride: int, rate: Fraction | None) -> Sequence[int]:
    if rate is None:
        return range(last % stride, last + 1, stride)
    samples = int(index.time(last) * rate) + 1
    return [index.at(index.time(last) - i / rate) for i in reversed(range(samples))]


@contextmanager
def open_video(path: Source, threads: int = 0) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its video stream, as `open_container`; ValueError if it has none."""
    with open_container(path) as container:
        # The cover picture of a sound file is a video stream to FFmpeg, but not to us.
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise ValueError(f"'{path}' holds no video stream. Choose a file with pictures, such as an mp4.")
        streams[0].thread_type, streams[0].thread_count = ThreadType.AUTO, threads
        yield container, streams[0]


@contextmanager
def open_container(path: Source) -> Iterator[InputContainer]:
    """Open a file; what FFmpeg cannot read inside the block is a ValueError naming the file."""
    try:
        with _readable(path) as readable, av.open(readable, "r") as container:
            yield container
    except av.FFmpegError as error:
        raise ValueError(
            f"'{path}' cannot be read as a video ({error.strerror}). Expected a whole mp4, mov, webm or mkv."
        ) from error


@contextmanager
def _readable(path: Source) -> Iterator[str | BinaryIO]:
    """What PyAV opens."""
    if not isinstance(path, str | os.PathLike):
        with path.open() as stream:
            yield stream
    elif Path(path).is_file():
        yield os.fspath(path)
    else:
        raise FileNotFoundError(f"There is no file '{path}'. Check the path.")


def _decode(
    path: Source, index: FrameIndex, wanted: Sequence[int], threads: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield the frames with these stamps (ascending), skipping groups of pictures that hold none of them."""
    with open_video(path, threads) as (container, stream):
        for keyframe, stamps in _runs(index, wanted):
            found = 0
            # Some formats cannot seek and some seek too far; then the file is read from its start.
            with suppress(av.FFmpegError):
                container.seek(keyframe, stream=stream)
            for stamped in _scan(container, stream, stamps):
                found += 1
                yield stamped
            if found < len(stamps):
                with open_video(path, threads) as again:
                    yield from _scan(*again, stamps[found:])


def _runs(index: FrameIndex, wanted: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Cut the stamps into runs that are decoded without a pause, each with the keyframe to start from."""
    groups = [max(bisect_right(index.keyframes, pts) - 1, 0) for pts in wanted]
    cuts = [0, *(i for i, (a, b) in enumerate(pairwise(groups), start=1) if b > a + 1), len(wanted)]
    return [(index.keyframes[groups[first]], list(wanted[first:end])) for first, end in pairwise(cuts)]


def _scan(container: InputContainer, stream: VideoStream, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode on and yield the frames with these stamps; stop after the last, or at one that does not come."""
    position = 0
    for frame in container.decode(stream):
        if frame.pts is None or frame.pts < wanted[position]:
            continue
        if frame.pts > wanted[position]:
            return
        yield frame.pts, frame
        position += 1
        if position == len(wanted):
            return
