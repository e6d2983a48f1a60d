"""First-frame initialization of look-back: "Implicit Semi-auto-regressive Image-to-Video Diffusion", 2.3 and 3.4.

Latents are `b c t h w`, the given image's `b c 1 h w`.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from .samplers import Denoise, sample_euler

InitializationName = Literal["hybrid", "add_noise", "inversion"]


@dataclass(frozen=True)
class Initialization:
    """Initialization of the first frame by the given image; by default frame 0 of the result is its latent exactly.

    Attributes:
        name: `hybrid`: the network sees the clean latent at every step; the paper's choice (Algorithms 2 and 3).
            `add_noise`: the given latent at the noise level of the step, always with the same noise.
            `inversion`: the noise that DDIM inversion finds for the given latent, denoised with the other frames.
            `free` is none of them: no frame is given.
        exact_first: frame 0 of the result is the given latent. False leaves what `inversion` makes of it, with the
            paper's loss (Figure 7), for comparison; the other ways know frame 0 at every step.

    Raises ValueError for another name.
    """

    name: InitializationName | Literal["free"] = "hybrid"
    exact_first: bool = True

    def __post_init__(self) -> None:
        if self.name not in (*get_args(InitializationName), "free"):
            raise ValueError(f"initialization must be one of {get_args(InitializationName)}, got {self.name!r}")

    @property
    def begins_with_image(self) -> bool:
        """Frame 0 of the clip is the given image."""
        return self.name != "free"

    @property
    def inverts(self) -> bool:
        """Frame 0 is denoised like the others, from inverted noise, and look-back leaves it unchanged."""
        return self.name == "inversion"

    @property
    def clean_input(self) -> bool:
        """The network sees frame 0 without noise (equation 2)."""
        return self.name == "hybrid"

    @property
    def knows_first(self) -> bool:
        """Frame 0 of every clean estimate is the given latent."""
        return self.begins_with_image and not self.inverts

    def input(self, z: Tensor, given: Tensor | None, origin: Tensor | float = 0.0) -> Tensor:
        """Return the network's input, with the clean frame 0 under `hybrid`, relative to the reference latent."""
        return pin_first(z, given, origin) if self.clean_input else z

    def estimate(self, denoised: Tensor, given: Tensor | None) -> Tensor:
        """Return the clean estimate, whose frame 0 `hybrid` and `add_noise` know.

        A sampler then moves frame 0 of its state as `add_noise` wants it: `given + sigma n` with the noise it began
        with.
        """
        return pin_first(denoised, given) if self.knows_first else denoised

    def start(self, y: Tensor, given: Tensor | None, sigmas: Tensor, denoise_first: Denoise) -> Tensor:
        """Return the state `y = x0 + sigma n` at which sampling starts.

        Args:
            y: noise at the first sigma, in every frame.
            sigmas: of the sampler, descending to 0.
            denoise_first: clean estimate of frame 0 alone; called for `inversion` only.
        """
        if not self.begins_with_image:
            return y
        given = _needed(given)
        return pin_first(y, invert(denoise_first, given, sigmas) if self.inverts else y[:, :, :1] + given.to(y))

    def result(self, latents: Tensor, given: Tensor | None) -> Tensor:
        """Return sampled latents that begin with the given one exactly, if they should."""
        return pin_first(latents, given) if self.knows_first or (self.inverts and self.exact_first) else latents

    def in_loss(self, clip: Tensor) -> Tensor:
        """Return the frames that count in the loss: all but the first for `hybrid` (equation 2), otherwise all."""
        return clip[:, :, 1:] if self.clean_input else clip


FREE = Initialization("free")


def pin_first(clip: Tensor, first: Tensor | None, origin: Tensor | float = 0.0) -> Tensor:
    """Return the clip with another frame 0, both relative to an origin.

    Raises ValueError if there is none, or if it has not the shape of one of the clip's.
    """
    first = _needed(first)
    if first.shape != clip[:, :, :1].shape:
        raise ValueError(
            f"the given image's latent must be one frame of the clip's shape {tuple(clip[:, :, :1].shape)}, got "
            f"{tuple(first.shape)}: encode the image at the size of the clip"
        )
    return torch.cat([(first - origin).to(clip), clip[:, :, 1:]], dim=2)


def invert(denoise: Denoise, given: Tensor, sigmas: Tensor) -> Tensor:
    """DDIM inversion, arXiv:2010.02502 section 4.3: the state at the first sigma that sampling leads to `given`.

    As usual the given latent stands for the state at the smallest sigma.
    """
    return sample_euler(denoise, given, sigmas[:-1].flip(0))


def _needed(given: Tensor | None) -> Tensor:
    if given is None:
        raise ValueError("look-back begins with a given image: conditions.image_latent is needed, got None")
    return given
