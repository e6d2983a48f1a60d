"""Types of our own that travel between nodes."""

from dataclasses import dataclass, replace

import torch
from comfy_api.latest import io
from torch import Tensor

from ..i2v_core.weights import AdapterContents

GivenImageSocket = io.Custom("I2V_IMAGE")
ImageProjectionSocket = io.Custom("I2V_IMAGE_PROJECTION")
AdapterSocket = io.Custom("I2V_ADAPTER")


@dataclass(frozen=True)
class GivenImage:
    """The picture to animate, encoded.

    Attributes:
        latent: as the host's VAE gives it, without the model's scale factor, `1 c h w`.
        image_tokens: output of the image projection, `1 t k d` for every frame or `1 k d` shared by all; None
            for models that do not look at the image this way.
        null_image_tokens: the same for a mid-grey picture, which stands for "no image".
        pixels: at the video's size, `1 h w 3` in [0, 1], for image retention.
        white_latent: latent of a white picture, `1 c h w`, which stands for "no image" without image tokens.
    """

    latent: Tensor
    image_tokens: Tensor | None = None
    null_image_tokens: Tensor | None = None
    pixels: Tensor | None = None
    white_latent: Tensor | None = None

    def without(self) -> "GivenImage":
        """What stands for "no image" beside this one: white, or the null tokens where the model looks at tokens.

        With tokens the latent stays, as DynamiCrafter keeps it in every guidance branch.
        """
        return replace(
            self,
            latent=self.latent if self.white_latent is None else self.white_latent,
            image_tokens=self.null_image_tokens,
            pixels=None if self.pixels is None else torch.ones_like(self.pixels),
        )


@dataclass(frozen=True)
class GivenAdapter:
    """What an adapter file holds, and what to call it in messages."""

    contents: AdapterContents
    name: str
