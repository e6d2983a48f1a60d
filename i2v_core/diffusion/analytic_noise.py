"""Analytic initial noise: where to start when the last, nearly imageless timesteps are left out.

Conditional image leakage (arXiv:2406.15735), "Analytic-Init": a video model that starts at its last timesteps copies
the given image and hardly moves; starting earlier, from the Gaussian closest to the noised videos of that timestep,
gives more motion.
"""

import math

import torch
from torch import Tensor


def analytic_start(noise: Tensor, sigma: Tensor, mean: Tensor | float = 0.0, variance: float = 1.0) -> Tensor:
    """Return a draw of the Gaussian closest to the noised videos at sigma: `y ~ N(E[x0], sigma^2 + tr(Cov[x0]) / d)`.

    This is the paper's distribution in sigma space, where it is the same under any dynamic rescale.

    Args:
        noise: standard normal, `b c t h w` (any shape).
        sigma: noise level at the start, 0-d, positive.
        mean: of the videos' scaled latents, of the noise's shape; 0 when unknown.
        variance: of the scaled latents, averaged over their entries, at least 0; 1 is what the scale factor of an
            autoencoder aims at.

    Raises:
        ValueError: sigma or variance out of range, or a mean of another shape.
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be positive and finite, got {sigma.item()}")
    if not 0 <= variance < math.inf:
        raise ValueError(f"variance must be finite and at least 0, got {variance}")
    if isinstance(mean, Tensor) and mean.shape != noise.shape:
        raise ValueError(f"mean must have the shape {tuple(noise.shape)} of the noise, got {tuple(mean.shape)}")
    level = sigma.to(torch.promote_types(noise.dtype, torch.float32)).to(noise.device)
    return (mean + (level**2 + variance).sqrt() * noise).to(noise.dtype)
