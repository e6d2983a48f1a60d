"""Pixel fidelity."""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from .checks import at_least, finite, same_shape

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB.

    Args:
        a, b: pixels in [-1, 1], `... c h w`.

    Returns:
        `...`; infinite for equal pictures.
    """
    error = (a.float() - b.float()).square().flatten(-3).mean(-1)
    return 10 * (4 / error).log10()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of each picture in the setting of Wang et al. 2004: the mean over the RGB channels.

    Computed on [0, 1], on which it is defined. Gaussian window of 11 pixels with sigma 1.5, population covariance,
    positions where the window lies inside, and no downsampling, whatever the size. Not the default of every library:
    their numbers differ in the third decimal.

    Args:
        a, b: pixels in [-1, 1], `... c h w`, sides of at least 11.

    Returns:
        `...`, at most 1.

    Raises:
        ValueError: different shapes, a smaller side, or NaN.
    """
    same_shape(a, b, "The pictures of SSIM")
    at_least(min(a.shape[-2:]), SSIM_WINDOW, "SSIM, in pixels of the shorter side,")
    # In [0, 1], since luminance is compared by its ratio; in float64, since variances are small differences of squares.
    x, y = (rearrange((finite(p, "The pictures").double() + 1) / 2, "... c h w -> (... c) 1 h w") for p in (a, b))
    offset = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    line = torch.exp(-offset.square() / (2 * SSIM_SIGMA**2))
    line = line / line.sum()

    def smooth(picture: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(picture, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))

    c1, c2 = 0.01**2, 0.03**2
    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    similarity = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1) * structure
    return similarity.mean((-1, -2, -3)).reshape(a.shape[:-2]).mean(-1).float()


def first_frame_ssim(clip: Tensor, real: Tensor) -> Tensor:
    """FFF_SSIM: SSIM of the first generated frame and the first real one, `...` (DreamVideo, section 5.1).

    Args:
        clip: pixels in [-1, 1], `... c t h w`; real: `... c h w`, resized and cropped in the same way.
    """
    return ssim(clip[..., 0, :, :], real)
