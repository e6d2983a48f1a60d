"""Frames in 256 colors: one palette for the whole clip, and error diffusion."""

from collections.abc import Callable, Iterable, Iterator

import av
from av.filter import Graph
from av.filter.context import FilterContext

_DITHER = "dither=sierra2_4a:diff_mode=rectangle"


def to_palette(make_frames: Callable[[], Iterable[av.VideoFrame]]) -> Iterator[av.VideoFrame]:
    """Reduce frames in BGRA to a common palette of 256 colors; they are made twice, and never all held.

    Args:
        make_frames: begins anew at each call.
    """
    palette = _palette(make_frames())
    graph, source, sink = Graph(), None, None
    for frame in make_frames():
        if source is None or sink is None:
            source, colors, mapping = _buffer(graph, frame), _buffer(graph, palette), graph.add("paletteuse", _DITHER)
            sink = graph.add("buffersink")
            source.link_to(mapping, 0, 0)
            colors.link_to(mapping, 0, 1)
            mapping.link_to(sink)
            graph.configure()
            colors.push(palette)
            colors.push(None)
        source.push(frame)
        yield from _drain(sink)
    if source is not None and sink is not None:
        source.push(None)
        yield from _drain(sink)


def _palette(frames: Iterable[av.VideoFrame]) -> av.VideoFrame:
    graph, source, sink = Graph(), None, None
    for frame in frames:
        if source is None:
            source, count, sink = _buffer(graph, frame), graph.add("palettegen"), graph.add("buffersink")
            source.link_to(count)
            count.link_to(sink)
            graph.configure()
        source.push(frame)
    assert source is not None and sink is not None  # frames without any raise before
    source.push(None)
    palette = sink.pull()
    assert isinstance(palette, av.VideoFrame)
    return palette


def _buffer(graph: Graph, frame: av.VideoFrame) -> FilterContext:
    base = frame.time_base or "1/1000"
    size = f"video_size={frame.width}x{frame.height}"
    return graph.add("buffer", f"{size}:pix_fmt={frame.format.name}:time_base={base}:pixel_aspect=1/1")


def _drain(sink: FilterContext) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        yield frame
