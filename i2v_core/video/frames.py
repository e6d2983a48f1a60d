"""Pictures and their ranges: the one place that resizes, and that converts between bytes, [0, 1] and [-1, 1].

Two forms exist, and no third:

- *picture*: `... h w c`, uint8 or floating point in [0, 1]. What files and users hold.
- *clip*: `... c t h w`, floating point in [-1, 1]. What the models take.
"""

from typing import Literal

import einops
import torch
from torch import Tensor
from torch.nn import functional

FitMode = Literal["crop", "pad", "stretch"]


def to_rgb(picture: Tensor) -> Tensor:
    """Return the picture with three channels: grey is repeated, transparency is laid over white.

    White, because transparent pictures are drawn for pages; merely dropping the alpha channel would show what
    lies under transparent pixels, which is arbitrary.

    Args:
        picture: `... h w c` with c 1, 3 or 4, uint8 or floating point in [0, 1].

    Returns:
        `... h w 3`, same dtype.

    Raises:
        ValueError: another number of channels, another dtype, NaN or infinite values.
    """
    check_picture(picture)
    if picture.shape[-1] == 4:
        return _over_white(picture)
    return einops.repeat(picture, "... 1 -> ... 3") if picture.shape[-1] == 1 else picture


def check_picture(picture: Tensor) -> None:
    """Raise ValueError unless `... h w c` has 1, 3 or 4 channels in uint8, or in finite floating-point numbers."""
    if picture.ndim < 3 or picture.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"Expected a picture `... h w c` with 1 (grey), 3 (RGB) or 4 (RGBA) channels, got "
            f"{tuple(picture.shape)}. Move the channels to the last axis, or convert to RGB."
        )
    if picture.dtype != torch.uint8 and not picture.is_floating_point():
        raise ValueError(f"Expected a picture in uint8 or floating point in [0, 1], got {picture.dtype}.")
    # Extremes are a tenth of the work of testing every number, and NaN is one.
    if picture.is_floating_point() and picture.numel() and not all(map(torch.isfinite, torch.aminmax(picture))):
        raise ValueError(
            "The picture holds NaN or infinite values, expected numbers in [0, 1]. They mostly come from a "
            "decoder in half precision: run it in float32 or bfloat16, or check what made the picture."
        )


def fit_size(height: int, width: int, multiple: int = 8) -> tuple[int, int]:
    """Return the nearest (height, width) whose sides are multiples of `multiple`, at least one of each."""
    if min(height, width, multiple) < 1:
        raise ValueError(f"Expected positive numbers, got height {height}, width {width}, multiple {multiple}.")
    return _nearest(height, multiple), _nearest(width, multiple)


def check_size(height: int, width: int, multiple: int = 8) -> None:
    """Raise ValueError unless both sides are multiples of `multiple`, naming the nearest size that is."""
    if height % multiple or width % multiple:
        nearest = "x".join(str(side) for side in fit_size(height, width, multiple))
        raise ValueError(
            f"height and width must be multiples of {multiple}, got {height}x{width}; the nearest is {nearest}"
        )


def fit_image(image: Tensor, height: int, width: int, mode: FitMode = "crop") -> Tensor:
    """Bring a picture to a size, in RGB, with an antialiased bicubic filter.

    Args:
        image: `... h w c` with c 1, 3 or 4, uint8 or floating point in [0, 1].
        mode: "crop" fills the size and cuts what sticks out, centered; "pad" shows the whole picture between
            black bars; "stretch" ignores the aspect ratio.

    Returns:
        `... height width 3`, same dtype and range. A picture of that size keeps its values exactly.

    Raises:
        ValueError: as `to_rgb`, an unknown mode, or a size below one pixel.
    """
    if mode not in ("crop", "pad", "stretch"):
        raise ValueError(f"Expected mode 'crop', 'pad' or 'stretch', got {mode!r}.")
    image = to_rgb(image)
    old_height, old_width = image.shape[-3:-1]
    if min(height, width, old_height, old_width) < 1:
        raise ValueError(
            f"Cannot fit a picture of {old_height}x{old_width} to {height}x{width}: a side below one pixel."
        )
    scales = height / old_height, width / old_width
    if mode == "stretch":
        return _resize(image, height, width)
    scale = max(scales) if mode == "crop" else min(scales)
    resized = _resize(image, max(1, round(old_height * scale)), max(1, round(old_width * scale)))
    return _center(resized, height, width)


def to_bytes(picture: Tensor) -> Tensor:
    """Round a picture in [0, 1] to uint8 0..255, any axes; overshoot is clamped and uint8 passes through."""
    if picture.dtype == torch.uint8:
        return picture
    return (picture.float().clamp(0, 1) * 255).round().to(torch.uint8)


def to_model_range(picture: Tensor) -> Tensor:
    """Map a picture (uint8, or floating point in [0, 1]) to [-1, 1], any axes; uint8 becomes float32."""
    return picture.float() / 127.5 - 1 if picture.dtype == torch.uint8 else picture * 2 - 1


def to_unit_range(pixels: Tensor) -> Tensor:
    """Map pixels in [-1, 1] to [0, 1], any axes; overshoot is clamped."""
    return ((pixels + 1) / 2).clamp(0, 1)


def frames_to_clip(frames: Tensor) -> Tensor:
    """Turn pictures `... t h w c` (uint8 or [0, 1]) into a clip `... c t h w` in [-1, 1]."""
    return to_model_range(einops.rearrange(frames, "... t h w c -> ... c t h w"))


def clip_to_frames(clip: Tensor) -> Tensor:
    """Turn a clip `... c t h w` in [-1, 1] into pictures `... t h w c` in [0, 1]."""
    return to_unit_range(einops.rearrange(clip, "... c t h w -> ... t h w c"))


def _over_white(picture: Tensor) -> Tensor:
    full = 255 if picture.dtype == torch.uint8 else 1
    color, alpha = picture[..., :3].float(), picture[..., 3:].float().clamp(0, full) / full
    blended = color * alpha + full * (1 - alpha)
    return (blended.round() if full == 255 else blended).to(picture.dtype)


def _nearest(size: int, multiple: int) -> int:
    return max(1, (size + multiple // 2) // multiple) * multiple


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    if image.shape[-3:-1] == (height, width):
        return image
    # float32: half precision has no antialiased kernel on the CPU. The clamp removes the filter's overshoot.
    flat, leading = einops.pack([image.float()], "* h w c")
    flat = einops.rearrange(flat, "n h w c -> n c h w")
    flat = functional.interpolate(flat, (height, width), mode="bicubic", antialias=True)
    [resized] = einops.unpack(einops.rearrange(flat, "n c h w -> n h w c"), leading, "* h w c")
    if image.dtype == torch.uint8:
        return resized.round().clamp(0, 255).to(torch.uint8)
    return resized.clamp(0, 1).to(image.dtype)


def _center(image: Tensor, height: int, width: int) -> Tensor:
    """Cut, or pad with black, keeping the middle in the middle: `... h w c` to `... height width c`."""
    top, left = (image.shape[-3] - height) // 2, (image.shape[-2] - width) // 2
    image = image[..., max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width, :]
    rows, columns = height - image.shape[-3], width - image.shape[-2]
    above, before = rows // 2, columns // 2
    return functional.pad(image, (0, 0, before, columns - before, above, rows - above))
