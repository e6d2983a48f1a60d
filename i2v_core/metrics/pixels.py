"""Pixel fidelity."""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


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
    """Structural similarity of each picture in the setting of Wang et al. 2004, the mean over the channels.

    Gaussian window of 11 pixels with sigma 1.5, population covariance, positions where the window lies inside.

    Args:
        a, b: pixels in [-1, 1], `... c h w`, sides of at least 11.

    Returns:
        `...`, at most 1.
    """
    # float64: variances are small differences of squares.
    x, y = (rearrange(picture.double(), "... c h w -> (... c) 1 h w") for picture in (a, b))
    line = torch.exp(-(torch.arange(-5, 6, dtype=x.dtype, device=x.device).square()) / (2 * 1.5**2))
    line = line / line.sum()

    def smooth(picture: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(picture, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))

    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mean_x, mean_y = smooth(x), smooth(y)
    variances = smooth(x * x) - mean_x**2 + smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    similarity = luminance * (2 * covariance + c2) / (variances + c2)
    return similarity.mean((-1, -2, -3)).reshape(a.shape[:-2]).mean(-1).float()
