"""Parametrizations of the prediction (eps, v or x0) and the clean estimate: the only file that knows the difference.

The network sees the variance-preserving input `z = sqrt(alpha_bar) s x0 + sqrt(1 - alpha_bar) n`, samplers
the state `y = x0 + sigma n`, where `sigma s = sqrt((1 - alpha_bar) / alpha_bar)` and s is the dynamic
rescale. v is that of Salimans and Ho, arXiv:2202.00512.

In every function the data is `b c t h w` (any axes after `b`); a level (sigma, scale, alpha_bar) is 0-d, `b`,
or shaped to broadcast against the data. Products are taken in float32 or better, because half precision holds
neither large sigmas nor small differences; the result has the dtype of y, of the clean estimate in
`from_denoised`, of x0 in training. An unknown prediction raises ValueError.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

Prediction = Literal["eps", "v", "x0"]


def network_input(y: Tensor, sigma: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Return the network's input z of about unit variance: `y s / sqrt(1 + (sigma s)^2)`."""
    signal, _ = _signal_and_noise(sigma, scale)
    return (at_least_float32(y) * append_dims(signal * scale, y)).to(y.dtype)


def to_denoised(
    prediction: Prediction, output: Tensor, y: Tensor, sigma: Tensor, scale: Tensor | float = 1.0
) -> Tensor:
    """Return the clean estimate that the network's output stands for at state y."""
    _check(prediction)
    output = output.to(at_least_float32(y).dtype)
    if prediction == "eps":
        return (y - append_dims(sigma, y) * output).to(y.dtype)
    if prediction == "x0":
        return (output / append_dims(torch.ones_like(sigma) * scale, y)).to(y.dtype)
    signal, noise = _signal_and_noise(sigma, scale)
    return (append_dims(signal**2, y) * y - append_dims(noise / scale, y) * output).to(y.dtype)


def from_denoised(
    prediction: Prediction, denoised: Tensor, y: Tensor, sigma: Tensor, scale: Tensor | float = 1.0
) -> Tensor:
    """Return the network output that stands for a clean estimate at state y; the inverse of `to_denoised`.

    sigma must be positive for eps and v, which a state without noise leaves undetermined.
    """
    _check(prediction)
    scaled = at_least_float32(denoised) * append_dims(torch.ones_like(sigma) * scale, y)
    if prediction == "x0":
        return scaled.to(denoised.dtype)
    eps = (y - at_least_float32(denoised)) / append_dims(sigma, y)
    if prediction == "eps":
        return eps.to(denoised.dtype)
    signal, noise = _signal_and_noise(sigma, scale)
    return (append_dims(signal, y) * eps - append_dims(noise, y) * scaled).to(denoised.dtype)


def reexpress(
    prediction: Prediction, output: Tensor, shift: Tensor | float, sigma: Tensor, scale: Tensor | float = 1.0
) -> Tensor:
    """Return the output that names the same clean clip counted from another origin.

    A network that estimates differences to an origin answers for its own. Noise is the same from everywhere, x0 moves
    with the origin, v by the share that x0 has in it.

    Args:
        shift: the output's origin minus the wanted one, broadcast against the output.
    """
    _check(prediction)
    if prediction == "eps" or isinstance(shift, float):
        return output
    _, noise = _signal_and_noise(sigma, scale)
    share = torch.ones_like(noise) if prediction == "x0" else -noise
    return (at_least_float32(output) + append_dims(share * scale, output) * at_least_float32(shift)).to(output.dtype)


def add_noise(x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Return z_t for training, variance preserving; dynamic rescale passes `s x0`, here and to `target`."""
    signal, level = _roots(alpha_bar)
    return (append_dims(signal, x0) * x0 + append_dims(level, x0) * noise).to(x0.dtype)


def target(prediction: Prediction, x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Return what a network of this prediction should answer for `add_noise(x0, noise, alpha_bar)`."""
    _check(prediction)
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return x0
    signal, level = _roots(alpha_bar)
    return (append_dims(signal, x0) * noise - append_dims(level, x0) * x0).to(x0.dtype)


def min_snr_weight(prediction: Prediction, alpha_bar: Tensor, gamma: float) -> Tensor:
    """Return the weight of each clip's squared error under Min-SNR-gamma (Hang et al., arXiv:2303.09556, section 3.4).

    `min(snr, gamma)` for x0; the same law for eps and v, whose errors are `snr` and `snr + 1` times those of x0.
    """
    _check(prediction)
    snr = at_least_float32(alpha_bar) / (1 - at_least_float32(alpha_bar))
    if prediction == "x0":
        return snr.clamp(max=gamma)
    return snr.clamp(max=gamma) / (snr if prediction == "eps" else snr + 1)


def _check(prediction: str) -> None:
    if prediction not in get_args(Prediction):
        raise ValueError(f"prediction must be one of {get_args(Prediction)}, got {prediction!r}")


def at_least_float32(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))


def _roots(alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    return at_least_float32(alpha_bar).sqrt(), (1 - at_least_float32(alpha_bar)).sqrt()


def _signal_and_noise(sigma: Tensor, scale: Tensor | float) -> tuple[Tensor, Tensor]:
    # sqrt(alpha_bar) and sqrt(1 - alpha_bar), without a difference that loses digits at small sigma.
    unscaled = at_least_float32(sigma) * scale
    signal = (1 + unscaled**2).rsqrt()
    return signal, unscaled * signal


def append_dims(level: Tensor, data: Tensor) -> Tensor:
    # Cast before moving: some devices have no float64.
    level = level.to(at_least_float32(data).dtype).to(data.device)
    return level.reshape(level.shape + (1,) * (data.ndim - level.ndim))
