"""The image projection as a model of the host, and the image tokens that it makes."""

from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.ops
import comfy.utils
import torch
from einops import rearrange
from torch import Tensor

from ...i2v_core.build import build_image_projection
from ...i2v_core.video.clip_pixels import clip_pixels
from ...i2v_core.video.frames import to_model_range
from ...i2v_core.weights import CheckpointContents
from .companions import image_encoder
from .network import host_attention
from .patcher import load_weights, make_patcher

GREY = 0.5  # the reference's null image: a mid-grey picture, not black and not a zero embedding


@dataclass(frozen=True)
class HostImageProjection:
    """An image projection whose memory the host manages."""

    patcher: Any

    def __call__(self, image_features: Tensor) -> Tensor:
        """Project `b n d` to image tokens `b t k d` or `b k d`, in float32 on the host's intermediate device.

        Raises ValueError for features of another width.
        """
        projection = self.patcher.model
        expected, given = projection.config.image_features, image_features.shape[-1]
        if given != expected:
            raise ValueError(
                f"The image projection expects features of width {expected}, clip_vision gives {given}: "
                f"use {image_encoder(expected)}."
            )
        comfy.model_management.load_models_gpu([self.patcher])
        tokens = projection(image_features.to(self.patcher.load_device, torch.float32))
        return tokens.to(comfy.model_management.intermediate_device())


def load_image_projection(contents: CheckpointContents) -> HostImageProjection | None:
    """The checkpoint's image projection; None if it has none."""
    if contents.image_projection_config is None or contents.image_projection is None:
        return None
    offload_device = comfy.model_management.text_encoder_offload_device()
    module = build_image_projection(
        contents.image_projection_config,
        operations=comfy.ops.manual_cast,
        attention=host_attention,
        device=offload_device,
        dtype=comfy.utils.weight_dtype(contents.image_projection),
    ).eval()
    patcher = make_patcher(module, comfy.model_management.text_encoder_device(), offload_device)
    load_weights(module.load_state_dict, contents.image_projection, patcher)
    return HostImageProjection(patcher)


def encode_image_tokens(clip_vision: Any, projection: HostImageProjection, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Image tokens of a picture `1 h w 3` in [0, 1], and of the null image."""
    features = image_features(clip_vision, torch.cat([pixels, torch.full_like(pixels, GREY)]))
    image, null = projection(features).split(1)
    return image, null


def image_features(clip_vision: Any, pictures: Tensor) -> Tensor:
    """Tokens `n k d` of the encoder's last layer, before its final norm, for pictures `n h w 3` in [0, 1].

    The host's own way to them crops, and rounds to 8 bits; the checkpoints were trained on neither.
    """
    clip = to_model_range(rearrange(pictures, "n h w c -> n c h w"))
    pixels = clip_pixels(clip, clip_vision.image_size, clip_vision.image_mean, clip_vision.image_std)
    comfy.model_management.load_models_gpu([clip_vision.patcher])
    features, *_ = clip_vision.model(pixel_values=pixels.to(clip_vision.load_device))
    return features
