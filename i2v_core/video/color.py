"""From decoded frames to RGB by their color tags, and the tags of what is written (see `planes`)."""

from typing import Any

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from .hdr import to_sdr
from .look import PLAIN, Look, square_width, upright

# swscale: bicubic (4), full chroma interpolation (0x2000), accurate rounding (0x40000). The default filter
# darkens a photograph by one level and costs 4 dB over a round trip RGB -> YUV 4:2:0 -> RGB.
_SCALING = 0x4 | 0x2000 | 0x40000
# swscale and ITU-T H.273 agree on these numbers: color matrices, then ranges.
_BT709, _UNTAGGED, _BT601 = 1, 2, 5
_LIMITED = 1


def to_rgb_array(frame: av.VideoFrame, look: Look = PLAIN) -> NDArray[np.uint8]:
    """Convert a decoded frame of a file with this look by its own color tags: RGB `h w 3`, upright, over white."""
    width = square_width(frame, look.aspect)
    if look.transfer:
        return upright(to_sdr(_converted(frame, "rgb48le", width), look.transfer), frame)
    if not _has_alpha(frame):
        return upright(_converted(frame, "rgb24", width).astype(np.uint8, copy=False), frame)
    pixels = _converted(frame, "rgba", width)
    color, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
    return upright(((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8), frame)


def tag_bt709(context: VideoCodecContext) -> None:
    """Write into the stream what `planes` computed, so that players show the same colors."""
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED


def _converted(frame: av.VideoFrame, form: str, width: int) -> NDArray[Any]:
    """The pixels in one of FFmpeg's RGB formats, `h width c`."""
    if frame.format.is_rgb:
        return frame.reformat(width=width, format=form, interpolation=_SCALING).to_ndarray()
    matrix = frame.colorspace
    if matrix == _UNTAGGED:
        # What players assume: high definition is BT.709, anything smaller BT.601.
        matrix = _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601
    # RGB has no matrix, but PyAV 14 ignores the source's unless the two differ; 601 is its default.
    return frame.reformat(
        width=width,
        format=form,
        interpolation=_SCALING,
        src_colorspace=matrix,
        src_color_range=frame.color_range or _LIMITED,
        dst_colorspace=_BT601,
    ).to_ndarray()


def _has_alpha(frame: av.VideoFrame) -> bool:
    # PyAV looks for a fourth channel, which a palette does not have.
    return frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)
