"""Pixels for a CLIP image encoder, as DynamiCrafter's authors prepare them (arXiv:2310.12190, their `embedder`).

Pictures are squashed to the encoder's square without cropping, rounding or clamping.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

CLIP_SIZE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(
    clip: Tensor,
    size: int = CLIP_SIZE,
    mean: Sequence[float] = CLIP_MEAN,
    deviation: Sequence[float] = CLIP_DEVIATION,
) -> Tensor:
    """Prepare pictures `b 3 h w` in [-1, 1] for an image encoder: `b 3 size size`, float32, about unit deviation.

    Args:
        mean, deviation: of each color in [0, 1], by which the encoder was trained.
    """
    pixels = (squash(clip, size, size) + 1) / 2
    center, scale = (rearrange(pixels.new_tensor(values), "c -> c 1 1") for values in (mean, deviation))
    return (pixels - center) / scale


def squash(clip: Tensor, height: int, width: int) -> Tensor:
    """Resize `b c h w` to `b c height width` in float32, ignoring the aspect ratio; the result may overshoot.

    Bicubic between the corners' centers; before, if either side shrinks, both are blurred with a Gaussian of deviation
    (factor - 1) / 2, which is kornia's `resize(..., "bicubic", align_corners=True, antialias=True)`.
    """
    # Half precision has no bicubic kernel on some devices.
    clip = clip.float()
    factors = clip.shape[-2] / height, clip.shape[-1] / width
    if max(factors) > 1:
        down, across = (_gaussian(factor).to(clip) for factor in factors)
        clip = _filter(_filter(clip, rearrange(down, "k -> k 1")), rearrange(across, "k -> 1 k"))
    return F.interpolate(clip, (height, width), mode="bicubic", align_corners=True)


def _gaussian(factor: float) -> Tensor:
    """Kernel for shrinking by this factor, of odd length and sum one."""
    deviation = max((factor - 1) / 2, 0.001)
    # The next odd number, if it is even.
    length = int(max(4 * deviation, 3)) // 2 * 2 + 1
    offsets = torch.arange(length) - length // 2
    return torch.softmax(-(offsets**2) / (2 * deviation**2), dim=0)


def _filter(clip: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel of `b c h w` with one kernel `k l`, mirroring the picture at its borders."""
    down, across = (side // 2 for side in kernel.shape)
    padded = F.pad(clip, (across, across, down, down), mode="reflect")
    channels = clip.shape[1]
    return F.conv2d(padded, kernel.expand(channels, 1, -1, -1), groups=channels)
