"""Color statistics of pictures, and giving one picture those of another (Reinhard et al. 2001, per RGB channel)."""

import torch
from einops import rearrange
from torch import Tensor

# A nearly flat picture has no contrast to stretch, only noise.
MAX_GAIN = 2.0


def channel_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of `c ... h w`: twice `c ...`, in float32."""
    flat = pixels.float().flatten(-2)
    return flat.mean(-1), flat.std(-1, correction=0)


def match_colors(clip: Tensor, of: Tensor, to: Tensor, strength: Tensor | float = 1.0) -> Tensor:
    """Give a clip the gain and offset, per channel, that lead the colors of one picture to another's.

    Args:
        clip: any linear range, `c t h w`; not clamped.
        of: pictures with the colors to replace, `c t h w`, or `c 1 h w` for one change of the whole clip.
        to: picture with the colors to reach, `c h w`, of any size.
        strength: 0 leaves the clip, 1 leads all the way; one number, or `t`.

    Returns:
        `c t h w`, in the clip's dtype. The gain stays within 1/2 and 2.
    """
    (mean, deviation), (wanted_mean, wanted_deviation) = channel_statistics(of), channel_statistics(to)
    gain = (wanted_deviation[:, None] / deviation.clamp(min=1e-6)).clamp(1 / MAX_GAIN, MAX_GAIN)
    offset = wanted_mean[:, None] - gain * mean
    gain, offset = (rearrange(value, "c t -> c t 1 1") for value in (gain, offset))
    strength = torch.as_tensor(strength, dtype=torch.float32, device=clip.device).reshape(-1, 1, 1)
    return torch.lerp(clip.float(), gain * clip.float() + offset, strength).to(clip.dtype)


def lead_colors_back(clip: Tensor, reference: Tensor, strength: float = 1.0) -> Tensor:
    """Lead the colors of a clip back to a picture's, more and more from frame to frame.

    The change is what the last frame needs. The first frame gets nothing of it and the last one the whole `strength`:
    the clip still begins where the one before it ended, and no join shows the correction.

    Args:
        clip: pixels in [-1, 1], `c t h w`.
        reference: `c h w`.

    Returns:
        `c t h w` in [-1, 1]. A clip of one frame gets the whole strength.
    """
    frames = clip.shape[1]
    ramp = strength * torch.linspace(0, 1, frames) if frames > 1 else torch.tensor([strength])
    return match_colors(clip, clip[:, -1:], reference, ramp.to(clip.device)).clamp(-1, 1)
