"""An adapter's image projection in the host: tokens of the given image, and the streams that attend to them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ...i2v_core.conditions import grey
from ...i2v_core.methods import ImageProjectionMethod
from ...i2v_core.model.image_encoder import ImageEncoder
from ...i2v_core.model.image_injection import ImageInjection
from ...i2v_core.model.image_projection import ImageProjection
from ...i2v_core.video.clip_pixels import clip_pixels
from ...i2v_core.weights import CheckpointContents
from ...i2v_core.weights.companions.known import IMAGE_ENCODER
from ...i2v_core.weights.contents import below
from ..convert import pictures_to_core
from ..sockets import GivenAdapter
from .adapters import attach_network, check_method, manage, require_kind
from .network import HostVideoUNet, method_wrapper

KIND = "image_projection"
NO_TOKENS = (
    "This model sees the given image through an image projection and got no image tokens: connect image_projection of "
    "Apply Image Projection to Encode Image for I2V."
)


@dataclass(frozen=True)
class HostImageProjection:
    """An image projection whose memory the host manages, with the small image encoder of an adapter if it has one."""

    patcher: Any
    encoder: Any | None = None

    def __call__(self, image_features: Tensor) -> Tensor:
        """Project `b n d` to image tokens `b t k d` or `b k d`, in float32 on the host's intermediate device.

        Raises ValueError for features of another width.
        """
        projection = self.patcher.model
        expected, given = projection.config.image_features, image_features.shape[-1]
        if given != expected:
            raise ValueError(
                f"The image projection expects features of width {expected}, clip_vision gives {given}: "
                f"use {IMAGE_ENCODER.on_canvas(expected)}."
            )
        comfy.model_management.load_models_gpu([self.patcher])
        tokens = projection(image_features.to(self.patcher.load_device, torch.float32))
        return tokens.to(comfy.model_management.intermediate_device())


def load_image_projection(contents: CheckpointContents) -> HostImageProjection | None:
    """The checkpoint's image projection; None if it has none."""
    if contents.image_projection_config is None or contents.image_projection is None:
        return None
    return HostImageProjection(
        _beside_text(ImageProjection, contents.image_projection_config, contents.image_projection)
    )


def load_adapter_projection(adapter: GivenAdapter) -> HostImageProjection:
    """An adapter's image projection, with its image encoder if it brings one."""
    config, tensors = adapter.contents.config, adapter.contents.tensors
    projection = _beside_text(ImageProjection, config.projection, below(tensors, "projection."))
    if config.encoder is None:
        return HostImageProjection(projection)
    return HostImageProjection(projection, _beside_text(ImageEncoder, config.encoder, below(tensors, "encoder.")))


def _beside_text(build: Callable[..., nn.Module], config: Any, tensors: Mapping[str, Tensor]) -> Any:
    """A network where the host keeps the encoders of conditions."""
    management = comfy.model_management
    devices = management.text_encoder_device(), management.text_encoder_offload_device()
    return manage(partial(build, config), tensors, *devices)


def encode_image_tokens(
    clip_vision: Any | None, projection: HostImageProjection, pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """Image tokens of a picture `1 h w 3` in [0, 1], and of the null image.

    Without clip_vision the adapter's own image encoder sees them.
    """
    picture = pictures_to_core(pixels)
    pictures = torch.cat([picture, grey(picture)])
    if clip_vision is None:
        features = own_features(projection.encoder, pictures)
    else:
        features = image_features(clip_vision, pictures)
    image, null = projection(features).split(1)
    return image, null


def own_features(encoder: Any, pictures: Tensor) -> Tensor:
    """Tokens `n k d` of an adapter's image encoder for pictures `n 3 h w` in [-1, 1]."""
    comfy.model_management.load_models_gpu([encoder])
    return encoder.model(pictures.to(encoder.load_device, torch.float32))


def image_features(clip_vision: Any, pictures: Tensor) -> Tensor:
    """Tokens `n k d` of the encoder's last layer, before its final norm, for pictures `n 3 h w` in [-1, 1].

    The host's own way to them crops, and rounds to 8 bits; the checkpoints were trained on neither.
    """
    pixels = clip_pixels(pictures, clip_vision.image_size, clip_vision.image_mean, clip_vision.image_std)
    comfy.model_management.load_models_gpu([clip_vision.patcher])
    features, *_ = clip_vision.model(pixel_values=pixels.to(clip_vision.load_device))
    return features


def apply_image_projection(model: Any, adapter: GivenAdapter) -> Any:
    """A copy of the model whose cross-attentions see image tokens beside the text.

    Raises ValueError for an adapter of another method or base, and for a model that has one already.
    """
    require_kind(adapter, KIND)
    unet, contents = model.model.diffusion_model, adapter.contents
    if not isinstance(unet, HostVideoUNet):
        raise ValueError(
            f"An image projection needs a model of Load I2V Checkpoint, got a {type(model.model).__name__}: load it "
            "there."
        )
    if model.get_wrappers(WrappersMP.DIFFUSION_MODEL, KIND):
        raise ValueError("This model has an image projection already: apply one adapter of this kind only.")
    build = partial(ImageInjection, contents.config.injection)
    patched, injection = attach_network(model, adapter, build, below(contents.tensors, "injection."))
    method = ImageProjectionMethod(injection)
    check_method(method, unet, adapter.name)
    wrapper = method_wrapper(method, "image_tokens", NO_TOKENS)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KIND, wrapper)
    return patched
