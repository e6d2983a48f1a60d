"""Interlaced frames to whole ones, by FFmpeg's bwdif."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby

import av
from av.filter import Graph

# One frame for each; progressive ones pass unchanged.
_BWDIF = "mode=send_frame:deint=interlaced"


def deinterlaced(frames: Iterator[tuple[int, av.VideoFrame]]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Deinterlace numbered frames, ascending; the filter looks at the frames before and after, where they follow."""
    numbered = ((number, place, frame) for place, (number, frame) in enumerate(frames))
    for _, run in groupby(numbered, key=lambda each: each[0] - each[1]):
        yield from _filtered((number, frame) for number, _, frame in run)


def with_neighbors(numbers: Sequence[int], end: int) -> list[int]:
    """The same numbers, and those before and after each, from 0 and below `end`."""
    return sorted({near for number in numbers for near in range(max(number - 1, 0), min(number + 2, end))})


def _filtered(frames: Iterator[tuple[int, av.VideoFrame]]) -> Iterator[tuple[int, av.VideoFrame]]:
    graph, source, waiting = Graph(), None, deque[int]()
    sink = graph.add("buffersink")
    for number, frame in frames:
        if source is None:
            source, filtering = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            ), graph.add("bwdif", _BWDIF)  # fmt: skip
            source.link_to(filtering)
            filtering.link_to(sink)
            graph.configure()
        waiting.append(number)
        source.push(frame)
        yield from _drained(sink, waiting)
    if source is not None:
        source.push(None)
        yield from _drained(sink, waiting)


def _drained(sink: "av.filter.context.FilterContext", waiting: deque[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    while waiting:
        try:
            frame = sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        yield waiting.popleft(), frame
