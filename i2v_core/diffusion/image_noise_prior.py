"""Image noise prior of TRIP (arXiv:2403.17005, section 3.2): the given image as a first guess of every frame's noise.

Linear fusion (equation 9) mixes the prior with what a network predicts. It equals mixing clean estimates. Fix a noised
clip and its level. What a network may predict is affine in the clean clip x that it stands for, p(x) = A x + B:

    eps   z = a x + s eps                  eps = (z - a x) / s
    v     of the same z                    v = a eps - s x = (a z - x) / s
    x0    of the same z                    x
    flow  z = (1 - sigma) x + sigma n      n - x = (z - x) / sigma

with a = sqrt(alpha_bar) and s = sqrt(1 - alpha_bar). The reference is p(image), the network's answer p(x0), and the
two weights sum to one, so that B is counted once:

    lambda p(image) + (1 - lambda) p(x0) = p(lambda image + (1 - lambda) x0).

Hence `linear_fusion` serves both spaces. On clean estimates nothing is divided by s, so nothing overflows as s
vanishes, and every model that yields a clean estimate can be fused, whatever it predicts.
"""

import torch
from torch import Tensor

from .prediction import Prediction, target

# Below every level of the paper's schedule (0.01 at its first step), and far from what half precision overflows at.
MIN_NOISE_LEVEL = 0.01


def image_noise_prior(z: Tensor, image: Tensor, alpha_bar: Tensor) -> Tensor:
    """Return the noise that would explain each noised frame if it showed the given image (equation 8).

    Args:
        z: noised latents, `b c t h w`.
        image: clean latent of the given image, `b c 1 h w`.
        alpha_bar: cumulative signal level, `b`, in [0, 1].

    Returns:
        Reference noise, `b c t h w`: exactly the noise added to a frame that equals the image. The divisor
        sqrt(1 - alpha_bar) is held at 0.01 from below; the paper leaves t near 0 open.

    Raises ValueError for an image of other sizes than the clip, or a level outside [0, 1].
    """
    check_image(z, image)
    signal, level = _levels(alpha_bar, z)
    return ((z - signal * image) / level).to(z.dtype)


def residual_ratio(x0: Tensor, image: Tensor, alpha_bar: Tensor) -> Tensor:
    """Return C of equation 5, `b c t h w`: by how much the prior of a clip exceeds its noise, clamped alike.

    Args:
        x0: clean latents, `b c t h w`; `image` and `alpha_bar` as in `image_noise_prior`.
    """
    check_image(x0, image)
    signal, level = _levels(alpha_bar, x0)
    return (signal * (x0 - image) / level).to(x0.dtype)


def residual_target(expected: Tensor, reference: Tensor, weights: Tensor) -> Tensor:
    """Return what the residual path has to answer, `b c t h w`, so that linear fusion gives what is expected.

    Raises ValueError for a weight of 1, which leaves the residual path nothing to say.
    """
    if bool((weights >= 1).any()):
        raise ValueError(f"the residual path has a target only where lambda is below 1, got {weights.max().item():g}")
    shares = weights.to(expected)[:, None, None]
    return (expected - shares * reference) / (1 - shares)


def reference_prediction(prediction: Prediction, z: Tensor, image: Tensor, alpha_bar: Tensor) -> Tensor:
    """Return what a network of this prediction would answer if every frame showed the image, `b c t h w`.

    For eps this is the image noise prior; arguments and errors are those of `image_noise_prior`.
    """
    prior = image_noise_prior(z, image, alpha_bar)
    return target(prediction, image.to(z).expand_as(z), prior, alpha_bar)


def fusion_weights(frames: int, first: float, last: float) -> Tensor:
    """Return lambda of each frame, `t`: linear over the frame index between the two ends (section 3.3).

    Raises ValueError for an end outside [0, 1] or fewer than one frame.
    """
    if frames < 1 or not (0 <= first <= 1 and 0 <= last <= 1):
        raise ValueError(f"lambda goes from 0 to 1 over at least one frame, got {first:g} to {last:g} over {frames}")
    return torch.linspace(first, last, frames)


def linear_fusion(reference: Tensor, residual: Tensor, weights: Tensor) -> Tensor:
    """Mix two predictions, or two clean estimates, frame by frame (equation 9).

    Args:
        reference, residual: `b c t h w`; the reference may broadcast over `t`.
        weights: lambda of each frame, `t`, in [0, 1]: 1 is the reference alone, 0 the residual alone.
    """
    shares = weights.to(residual)[:, None, None]
    return shares * reference.to(residual) + (1 - shares) * residual


def check_image(clip: Tensor, image: Tensor) -> None:
    """Refuse an image latent that is not `b c 1 h w` of the clip's `b c t h w`."""
    batch, channels, _, height, width = clip.shape
    if tuple(image.shape) != (batch, channels, 1, height, width):
        raise ValueError(
            f"the image latent must be `b c 1 h w` = {(batch, channels, 1, height, width)} for this clip, got "
            f"{tuple(image.shape)}: encode one picture for each clip, at the clip's size, with the model's autoencoder"
        )


def _levels(alpha_bar: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and clamped noise level `b 1 1 1 1` in float32 or better."""
    if not bool(((alpha_bar >= 0) & (alpha_bar <= 1)).all()):
        raise ValueError(f"alpha_bar must lie in [0, 1], got {alpha_bar.min().item():g} to {alpha_bar.max().item():g}")
    wide = alpha_bar.to(torch.promote_types(alpha_bar.dtype, torch.float32)).to(clip.device)[:, None, None, None, None]
    return wide.sqrt(), (1 - wide).sqrt().clamp(min=MIN_NOISE_LEVEL)
