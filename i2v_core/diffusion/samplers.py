"""Samplers as functions `(denoise, x, sigmas, ...) -> x` in sigma space, `x = x0 + sigma n`.

`denoise(x, sigma)` returns the clean estimate for the state x at sigma, a 0-d entry of the sigmas as passed.
The state is `b c t h w` (or any shape) and in float32 or better, also for `denoise`, because half precision
does not hold the sigmas of zero terminal SNR; the result has the dtype of x. A last sigma of 0 returns the
clean estimate exactly.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
Noise = Callable[[int], Tensor]
Callback = Callable[[int, int, Tensor], None]


def sample_euler(denoise: Denoise, x: Tensor, sigmas: Tensor, *, callback: Callback | None = None) -> Tensor:
    """Integrate `dx / dsigma = (x - x0) / sigma` by Euler's method.

    Args:
        denoise: clean estimate for a state and its sigma.
        x: state at sigmas[0], `b c t h w`.
        sigmas: `n + 1`, positive but for the last, which may be 0; ascending order inverts.
        callback: gets (step, steps, clean estimate) after each estimate; what it raises ends the sampling.

    Raises:
        ValueError: sigmas of another form.
    """
    levels = _levels(sigmas)
    steps = len(levels) - 1
    state = x.to(torch.promote_types(x.dtype, torch.float32))
    for step in range(steps):
        denoised = denoise(state, sigmas[step])
        if callback is not None:
            callback(step, steps, denoised)
        state = denoised + (levels[step + 1] / levels[step]) * (state - denoised)
    return state.to(x.dtype)


def sample_ddim(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    eta: float = 0.0,
    noise: Noise | None = None,
    scales: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample by DDIM, arXiv:2010.02502 equation 12, without the root of a difference that can go negative.

    Args:
        denoise: clean estimate for a state and its sigma.
        x: state at sigmas[0], `b c t h w`.
        sigmas: `n + 1`, positive but for the last, which may be 0.
        eta: share of fresh noise in [0, 1]; 0 is deterministic and equal to Euler's method.
        noise: standard normal of the shape of x for a step index; called only for steps that add noise.
        scales: s at each sigma, `n + 1`, for the exact split under dynamic rescale; None for 1.
        callback: gets (step, steps, clean estimate) after each estimate; what it raises ends the sampling.

    Raises:
        ValueError: eta outside [0, 1] or above 0 without noise, sigmas, scales or noise of another form.
    """
    levels = _levels(sigmas)
    steps = len(levels) - 1
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], got {eta}")
    if eta > 0 and noise is None:
        raise ValueError(f"eta {eta} adds noise at each step, got noise=None: pass a noise function or set eta 0")
    if scales is not None and scales.shape != sigmas.shape:
        raise ValueError(f"scales must have the shape {tuple(sigmas.shape)} of sigmas, got {tuple(scales.shape)}")
    signal = [1.0] * len(levels) if scales is None else scales.tolist()

    state = x.to(torch.promote_types(x.dtype, torch.float32))
    for step in range(steps):
        denoised = denoise(state, sigmas[step])
        if callback is not None:
            callback(step, steps, denoised)
        following = levels[step + 1]
        kept, fresh = _split(levels[step] * signal[step], following * signal[step + 1], eta)
        state = denoised + (following * kept / levels[step]) * (state - denoised)
        if noise is not None and following * fresh > 0:
            state = state + following * fresh * _draw(noise, step, state)
    return state.to(x.dtype)


def _split(sigma: float, following: float, eta: float) -> tuple[float, float]:
    # Shares of the old noise's direction and of fresh noise, squares summing to 1, from the unscaled sigmas.
    fresh = eta**2 * max(0.0, 1 - (following / sigma) ** 2)
    return math.sqrt(1 - fresh), math.sqrt(fresh)


def _draw(noise: Noise, step: int, state: Tensor) -> Tensor:
    drawn = noise(step)
    if drawn.shape != state.shape:
        raise ValueError(f"noise({step}) must have the shape {tuple(state.shape)} of x, got {tuple(drawn.shape)}")
    return drawn.to(dtype=state.dtype).to(state.device)


def _levels(sigmas: Tensor) -> list[float]:
    # Python floats are float64 on every device and spare a synchronization in each step.
    if sigmas.ndim != 1 or len(sigmas) == 0:
        raise ValueError(f"sigmas must be a non-empty list of levels, got shape {tuple(sigmas.shape)}")
    levels: list[float] = sigmas.tolist()
    if not all(0 < level < math.inf for level in levels[:-1]) or not 0 <= levels[-1] < math.inf:
        raise ValueError(f"sigmas must be finite and positive, the last may be 0; got {levels}")
    return levels
