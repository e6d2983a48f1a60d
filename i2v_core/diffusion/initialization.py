"""First-frame initialization of look-back: "Implicit Semi-auto-regressive Image-to-Video Diffusion", 2.3 and 3.4.

A clip begins with the given image. What the network sees of frame 0 while the others are noised is one of:

- `hybrid`: the clean latent at every step; the paper's choice (Algorithms 2 and 3).
- `add_noise`: the given latent noised to the level of the step, always by the same noise.
- `inversion`: the noise that DDIM inversion finds for the given latent, then denoised with the others.

Latents are `b c t h w`, the given one `b c 1 h w`. The result begins with the given latent exactly in all three.
"""

from typing import Literal

import torch
from torch import Tensor

from .samplers import Denoise, sample_euler

Initialization = Literal["hybrid", "add_noise", "inversion"]


def pin_first(clip: Tensor, first: Tensor) -> Tensor:
    """Return the clip with another frame 0.

    Raises ValueError if that frame has not the shape of one of the clip's.
    """
    if first.shape != clip[:, :, :1].shape:
        raise ValueError(
            f"the given image's latent must be one frame of the clip's shape {tuple(clip[:, :, :1].shape)}, got "
            f"{tuple(first.shape)}: encode the image at the size of the clip"
        )
    return torch.cat([first.to(clip), clip[:, :, 1:]], dim=2)


def first_input(initialization: Initialization, z: Tensor, clean: Tensor) -> Tensor:
    """Return the network's input, in which `hybrid` puts the clean frame 0 (equation 2)."""
    return pin_first(z, clean) if initialization == "hybrid" else z


def first_estimate(initialization: Initialization, denoised: Tensor, given: Tensor) -> Tensor:
    """Return the clean estimate, of which `hybrid` and `add_noise` know frame 0.

    A sampler then moves frame 0 of its state as `add_noise` wants it: `given + sigma n` with the noise it began with.
    """
    return denoised if initialization == "inversion" else pin_first(denoised, given)


def first_state(
    initialization: Initialization, y: Tensor, given: Tensor, sigmas: Tensor, denoise_first: Denoise
) -> Tensor:
    """Return where a sampler begins, at `y = x0 + sigma n`.

    Args:
        y: noise at the first sigma, in every frame.
        sigmas: of the sampler, descending to 0.
        denoise_first: clean estimate of frame 0 alone; called for `inversion` only.
    """
    if initialization == "inversion":
        return pin_first(y, invert(denoise_first, given, sigmas))
    return pin_first(y, y[:, :, :1] + given.to(y))


def invert(denoise: Denoise, given: Tensor, sigmas: Tensor) -> Tensor:
    """DDIM inversion, arXiv:2010.02502 section 4.3: the state at the first sigma that sampling leads to `given`.

    As usual the given latent stands for the state at the smallest sigma.
    """
    return sample_euler(denoise, given, sigmas[:-1].flip(0))


def frames_in_loss(initialization: Initialization, clip: Tensor) -> Tensor:
    """Return the frames that the loss sees: all but the first for `hybrid` (equation 2), otherwise all of them."""
    return clip[:, :, 1:] if initialization == "hybrid" else clip
