"""Types of our own that travel between nodes."""

from dataclasses import dataclass

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
    """

    latent: Tensor
    image_tokens: Tensor | None = None
    null_image_tokens: Tensor | None = None


@dataclass(frozen=True)
class GivenAdapter:
    """What an adapter file holds, and what to call it in messages."""

    contents: AdapterContents
    name: str
