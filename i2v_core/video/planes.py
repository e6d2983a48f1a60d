"""From pictures to FFmpeg's pixel formats: RGB, planar or packed, and limited-range BT.709, at 8 to 16 bits.

Computed here and not by swscale: exact to rounding at every depth, on the device of the frames, and the same in every
version of FFmpeg.
"""

from dataclasses import dataclass

import av
import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

# ITU-R BT.709-6, items 3.2 and 3.3: rows Y, Cb, Cr of R'G'B', all three of span 1.
_BT709 = (
    (0.2126, 0.7152, 0.0722),
    (-0.2126 / 1.8556, -0.7152 / 1.8556, 0.5),
    (0.5, -0.7152 / 1.5748, -0.0722 / 1.5748),
)
# Item 4.6: levels of 8 bits that span and origin take; deeper formats shift them to the left.
_SPANS, _ORIGINS = (219.0, 224.0, 224.0), (16.0, 128.0, 128.0)


@dataclass(frozen=True)
class PixelFormat:
    """One of FFmpeg's pixel formats: its name, bits per channel, and letters of the channels in their order.

    Formats beginning with `y` or `g` have a plane for each channel, others one for all; `0` is a channel that nobody
    reads. `chroma` is by how much height and width of the color planes are divided.
    """

    name: str
    bits: int
    order: str
    chroma: tuple[int, int] = (1, 1)

    @property
    def has_alpha(self) -> bool:
        return "a" in self.order

    @property
    def is_yuv(self) -> bool:
        return self.order.startswith("y")


def to_frame(picture: Tensor, pixels: PixelFormat) -> av.VideoFrame:
    """Convert one picture for an encoder; sides that chroma does not divide grow, repeating the edge.

    Args:
        picture: `h w c` with c 3, or 4 where the format has alpha; floating point in [0, 1] (overshoot is clamped) or
            uint8, on any device.
    """
    color = picture.detach().float() / 255 if picture.dtype == torch.uint8 else picture.detach().float()
    channels = rearrange(color, "h w c -> c h w")
    # Straight into planes: every further copy of a frame costs as much as the arithmetic.
    channels = torch.clamp(channels, 0, 1, out=channels.new_empty(channels.shape))
    planes = _to_planes(_grow(channels, pixels.chroma), pixels)
    height, width = planes[0].shape[:2]
    frame = av.VideoFrame(width, height, pixels.name)
    for plane, values in zip(frame.planes, planes, strict=True):
        fill(plane, values, ">u2" if pixels.name.endswith("be") else "<u2" if pixels.bits > 8 else "u1")
    if pixels.is_yuv:
        frame.colorspace = frame.color_range = 1  # BT.709 and limited, in FFmpeg's numbers
    return frame


def _to_planes(channels: Tensor, pixels: PixelFormat) -> list[Tensor]:
    """Levels of the planes, half a level up, so that cutting the fraction off rounds them."""
    full = 2**pixels.bits - 1
    if pixels.is_yuv:
        luma, chroma = _to_yuv(channels[:3], pixels.bits)
        planes = [luma, *_shrink(chroma, *pixels.chroma)]
        return [*planes, channels[3] * full + 0.5] if pixels.has_alpha else planes
    opaque = torch.ones_like(channels[:1])
    stored = torch.cat([channels["rgba".index(letter)][None] if letter != "0" else opaque for letter in pixels.order])
    levels = stored * full + 0.5
    return list(levels) if pixels.order.startswith("g") else [rearrange(levels, "c h w -> h w c")]


def _to_yuv(rgb: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Luma `h w` and chroma `2 h w` of `3 h w`, in levels and half a level up."""
    scale = 2 ** (bits - 8)
    matrix = rgb.new_tensor(_BT709) * rearrange(rgb.new_tensor(_SPANS), "y -> y 1") * scale
    origin = rearrange(rgb.new_tensor(_ORIGINS) * scale + 0.5, "y -> y 1")
    yuv = torch.addmm(origin, matrix, rearrange(rgb, "c h w -> c (h w)"))
    luma, chroma = yuv.reshape(rgb.shape).split((1, 2))
    return luma[0], chroma


def _shrink(chroma: Tensor, down: int, across: int) -> Tensor:
    """Mean over pairs of rows; [1 2 1] / 4 over columns, because H.264 and its like place chroma on the left one."""
    if down == 2:
        chroma = (chroma[:, 0::2] + chroma[:, 1::2]) / 2
    if across == 2:
        even, odd = chroma[:, :, 0::2], chroma[:, :, 1::2]
        before = torch.cat((even[:, :, :1], odd[:, :, :-1]), dim=2)
        chroma = even / 2 + (before + odd) / 4
    return chroma


def _grow(channels: Tensor, multiples: tuple[int, int]) -> Tensor:
    """Repeat the last row and column of `c h w` up to sides of these multiples."""
    down, across = (-side % multiple for side, multiple in zip(channels.shape[1:], multiples, strict=True))
    return functional.pad(channels, (0, across, 0, down), mode="replicate") if down or across else channels


def fill(plane: av.video.plane.VideoPlane, values: Tensor, dtype: str) -> None:
    """Write `h w` or `h w c` into a plane, whose lines are longer than the picture."""
    rows = values.reshape(len(values), -1).cpu().numpy()
    lines = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // np.dtype(dtype).itemsize)  # type: ignore[call-overload]
    np.copyto(lines[: len(rows), : rows.shape[1]], rows, casting="unsafe")
