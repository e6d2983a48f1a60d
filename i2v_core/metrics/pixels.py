"""Pixel fidelity."""

from torch import Tensor


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB.

    Args:
        a, b: pixels in [-1, 1], `... c h w`.

    Returns:
        `...`; infinite for equal pictures.
    """
    error = (a.float() - b.float()).square().flatten(-3).mean(-1)
    return 10 * (4 / error).log10()
