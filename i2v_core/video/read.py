"""Reading video files, frame by frame exactly.

A frame is addressed by its presentation time stamp (pts), never by an average rate: on files with a variable
frame rate the average finds the wrong frames.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import av
import torch
from av.container import InputContainer
from av.video.stream import VideoStream
from torch import Tensor

from .color import to_rgb_array
from .containers import open_video
from .deinterlace import deinterlaced, with_neighbors
from .frames import FitMode, fit_image
from .index import FrameIndex, as_fps, decode, index_frames
from .look import Look
from .sources import Source


@dataclass(frozen=True, eq=False)
class Clip:
    """Decoded frames: pictures `t h w c` in RGB uint8 (a quarter of float32's memory; `frames_to_clip` makes
    what models take), frames per second, and the time of each in seconds after the file's first frame."""

    frames: Tensor
    fps: Fraction
    times: tuple[float, ...]


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
    for _, frame in numbered_frames(path, index, indices, threads):
        picture = torch.from_numpy(to_rgb_array(frame, index.look))
        yield picture if size is None else fit_image(picture, *size, mode)


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


def numbered_frames(
    path: Source, index: FrameIndex, chosen: Sequence[int], threads: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield the chosen frames (ascending) with their numbers: the one way to them, for reading and for audits.

    Raises:
        FileNotFoundError, ValueError: as `open_video`, a frame that cannot be decoded, or another size in mid-file.
    """
    wanted = with_neighbors(chosen, len(index)) if index.look.interlaced else chosen
    frames = _decoded(path, index, wanted, threads)
    if index.look.interlaced:
        keep = set(chosen)
        frames = (each for each in deinterlaced(frames) if each[0] in keep)
    done = 0
    for number, frame in frames:
        _check_size(path, index.look, number, frame)
        done += 1
        yield number, frame
    if done < len(chosen):
        raise ValueError(f"Frame {chosen[done]} of '{path}' cannot be decoded: copy or convert the file again.")


def _check_size(path: Source, look: Look, number: int, frame: av.VideoFrame) -> None:
    height, width = look.size_of(frame)
    if (height, width) != (look.height, look.width):
        raise ValueError(
            f"'{path}' changes its size at frame {number}, from {look.width}x{look.height} to {width}x{height}: "
            "cut it there, or convert it to one size."
        )


def _decoded(
    path: Source, index: FrameIndex, chosen: Sequence[int], threads: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield frames by their numbers, up to the first that does not come."""
    if index.numbers is not None:
        yield from _by_count(path, [index.numbers[i] for i in chosen], chosen, threads)
        return
    stamps = [index.pts[i] for i in chosen]
    for number, stamp, (pts, frame) in zip(chosen, stamps, _by_stamp(path, index, stamps, threads), strict=False):
        if pts != stamp:
            return
        yield number, frame


def _by_count(
    path: Source, places: Sequence[int], chosen: Sequence[int], threads: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    waiting = deque(zip(places, chosen, strict=True))
    with open_video(path, threads) as opened:
        for place, frame in enumerate(decode(*opened)):
            if waiting and place == waiting[0][0]:
                yield waiting.popleft()[1], frame
            if not waiting:
                return


def _by_stamp(
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
    for frame in decode(container, stream):
        if frame.pts is None or frame.pts < wanted[position]:
            continue
        if frame.pts > wanted[position]:
            return
        yield frame.pts, frame
        position += 1
        if position == len(wanted):
            return
