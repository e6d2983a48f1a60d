"""Frames in 256 colors: one palette for the whole clip, and error diffusion.

FFmpeg counts the palette. Pillow maps to it, several times faster than FFmpeg's own filter; only clips of so few colors
that the palette holds them all go through that filter, which keeps them exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import count
from typing import TYPE_CHECKING

import av
import numpy as np
import torch
from av.filter import Graph
from av.filter.context import FilterContext
from numpy.typing import NDArray
from torch import Tensor

from .frames import to_bytes
from .planes import PixelFormat, fill, to_frame

if TYPE_CHECKING:
    from PIL.Image import Image

Bytes = NDArray[np.uint8]
_DITHER = "dither=sierra2_4a:diff_mode=rectangle"
_SAMPLED = 1 << 17  # pixels of a frame that the palette is counted from
_NEAR = 3  # levels of 255: smaller and closer to the original than error diffusion alone
_CLEAR = 255  # where FFmpeg puts the transparent color, with which its encoder says "as before"


def to_palette(make_frames: Callable[[], Iterable[Tensor]], pixels: PixelFormat) -> Iterator[av.VideoFrame]:
    """Reduce frames `h w 3` to a common palette of 256 colors; they are made twice, and never all held.

    The first time is over when this returns.

    Args:
        make_frames: begins anew at each call.
        pixels: in which FFmpeg counts and maps colors.
    """
    palette = _palette(to_frame(sampled, pixels) for sampled in map(_sampled, count(), make_frames()))
    colors = _colors(palette)
    if len(np.unique(colors[:_CLEAR], axis=0)) < _CLEAR:
        return _mapped_exactly((to_frame(frame, pixels) for frame in make_frames()), palette)
    return _mapped(make_frames(), colors)


def _sampled(number: int, frame: Tensor) -> Tensor:
    """Every so many pixels of a frame, others in each, so that all of a picture that stands still are seen."""
    height, width = frame.shape[:2]
    step = min(math.ceil(math.sqrt(height * width / _SAMPLED)), height, width)
    whole = frame[: height - height % step, : width - width % step]
    return whole[number % step :: step, number // step % step :: step]


def _palette(frames: Iterable[av.VideoFrame]) -> av.VideoFrame:
    graph, source, sink = Graph(), None, None
    for number, frame in enumerate(frames):
        if source is None:
            source, counting, sink = _buffer(graph, frame), graph.add("palettegen"), graph.add("buffersink")
            source.link_to(counting)
            counting.link_to(sink)
            graph.configure()
        frame.pts, frame.time_base = number, Fraction(1, 1000)
        source.push(frame)
    assert source is not None and sink is not None  # frames without any raise before
    source.push(None)
    palette = sink.pull()
    assert isinstance(palette, av.VideoFrame)
    return palette


def _colors(palette: av.VideoFrame) -> Bytes:
    """RGB `256 3` of FFmpeg's palette, a picture of 16 x 16 pixels."""
    lines = np.frombuffer(palette.planes[0], np.uint8).reshape(palette.height, -1, 4)  # type: ignore[call-overload]
    return np.ascontiguousarray(lines[:, : palette.width, 2::-1].reshape(-1, 3))


def _mapped(frames: Iterable[Tensor], colors: Bytes) -> Iterator[av.VideoFrame]:
    """Frames in `pal8`; only the rectangle that changed is dithered anew, so that what stands still stays still."""
    from PIL import Image as pillow

    palette = pillow.new("P", (1, 1))
    palette.putpalette(colors[:_CLEAR].tobytes())
    before = levels = np.zeros((0, 0, 0), np.uint8)
    for frame in frames:
        picture = to_bytes(frame).cpu().numpy()
        changed = _changed(before, picture)
        if changed is None:
            levels, changed = np.zeros(picture.shape[:2], np.uint8), (slice(None), slice(None))
        part = np.ascontiguousarray(picture[changed])
        if part.size:
            levels[changed] = _dithered(pillow.fromarray(part), palette)
        before = picture
        yield _pal8(levels, colors)


def _dithered(picture: Image, palette: Image) -> Bytes:
    """Numbers of colors, by error diffusion; pixels that have nearly a color of the palette take it.

    Without that rule noise spreads where none is needed: it makes files larger, and flat areas restless.
    """
    from PIL import Image as pillow
    from PIL import ImageChops

    nearest = picture.quantize(palette=palette, dither=pillow.Dither.NONE)
    red, green, blue = ImageChops.difference(picture, nearest.convert("RGB")).split()
    off = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    diffused = picture.quantize(palette=palette)
    return np.where(np.asarray(off) <= _NEAR, np.asarray(nearest), np.asarray(diffused))


def _changed(before: Bytes, now: Bytes) -> tuple[slice, slice] | None:
    """The rectangle in which two pictures differ; None if they are not alike at all."""
    if before.shape != now.shape:
        return None
    different = (before != now).any(-1)
    rows, columns = np.flatnonzero(different.any(1)), np.flatnonzero(different.any(0))
    if not len(rows):
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _pal8(levels: Bytes, colors: Bytes) -> av.VideoFrame:
    frame = av.VideoFrame(levels.shape[1], levels.shape[0], "pal8")
    fill(frame.planes[0], torch.from_numpy(levels), "u1")
    alpha = np.full((256, 1), 255, np.uint8)
    alpha[_CLEAR] = 0
    entries = np.concatenate((alpha, colors), axis=1).view(">u4").astype("=u4")
    frame.planes[1].update(entries.tobytes())
    return frame


def _mapped_exactly(frames: Iterable[av.VideoFrame], palette: av.VideoFrame) -> Iterator[av.VideoFrame]:
    graph, source, sink = Graph(), None, None
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, Fraction(1, 1000)
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
