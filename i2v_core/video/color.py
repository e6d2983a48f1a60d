"""From decoded frames to RGB by their color tags, and the tags of what is written (see `planes`)."""

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

# swscale: bicubic (4), full chroma interpolation (0x2000), accurate rounding (0x40000). The default filter
# darkens a photograph by one level and costs 4 dB over a round trip RGB -> YUV 4:2:0 -> RGB.
_SCALING = 0x4 | 0x2000 | 0x40000
# swscale and ITU-T H.273 agree on these numbers: color matrices, then ranges.
_BT709, _UNTAGGED, _BT601 = 1, 2, 5
_LIMITED = 1


def to_rgb_array(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Convert a decoded frame by its own color tags and turn it upright: RGB `h w 3`."""
    matrix = frame.colorspace
    if matrix == _UNTAGGED:
        # What players assume: high definition is BT.709, anything smaller BT.601.
        matrix = _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601
    if frame.format.is_rgb:
        rgb = frame.reformat(format="rgb24", interpolation=_SCALING)
    else:
        # RGB has no matrix, but PyAV 14 ignores the source's unless the two differ; 601 is its default.
        rgb = frame.reformat(
            format="rgb24",
            interpolation=_SCALING,
            src_colorspace=matrix,
            src_color_range=frame.color_range or _LIMITED,
            dst_colorspace=_BT601,
        )
    # FFmpeg counts the rotation counterclockwise, as rot90 does.
    return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), round(frame.rotation / 90)), dtype=np.uint8)


def tag_bt709(context: VideoCodecContext) -> None:
    """Write into the stream what `planes` computed, so that players show the same colors."""
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED
