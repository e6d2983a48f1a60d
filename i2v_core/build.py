"""The only nested constructors: from configurations to modules."""

from typing import Any

import torch
from torch import nn

from .model.attention import AttentionFunction, scaled_dot_product_attention
from .model.autoencoder import Autoencoder, AutoencoderConfig
from .model.dual_reference_decoder import DualReferenceAutoencoder, DualReferenceConfig
from .model.image_encoder import ImageEncoder, ImageEncoderConfig
from .model.image_injection import ImageAdapter, ImageAdapterConfig, ImageInjection, ImageInjectionConfig
from .model.image_projection import ImageProjection, ImageProjectionConfig
from .model.image_retention import ImageRetention, ImageRetentionConfig
from .model.look_back import LookBack, LookBackConfig
from .model.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig
from .model.temporal_noise_fusion import TemporalNoiseFusion, TemporalNoiseFusionConfig
from .model.text_encoder import TextEncoder, TextEncoderConfig
from .model.video_unet import VideoUNet, VideoUNetConfig


def build_unet(
    config: VideoUNetConfig,
    *,
    operations: Any = nn,
    attention: AttentionFunction = scaled_dot_product_attention,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> VideoUNet:
    """Build a video U-Net with new weights, from the host's layers and attention if they are given."""
    return VideoUNet(config, operations=operations, attention=attention, device=device, dtype=dtype)


def build_image_projection(
    config: ImageProjectionConfig,
    *,
    operations: Any = nn,
    attention: AttentionFunction = scaled_dot_product_attention,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ImageProjection:
    """Build an image projection with new weights."""
    return ImageProjection(config, operations=operations, attention=attention, device=device, dtype=dtype)


def build_image_encoder(
    config: ImageEncoderConfig,
    *,
    operations: Any = nn,
    attention: AttentionFunction = scaled_dot_product_attention,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ImageEncoder:
    """Build one of our small image encoders with new weights."""
    return ImageEncoder(config, operations=operations, attention=attention, device=device, dtype=dtype)


def build_image_injection(
    config: ImageInjectionConfig,
    *,
    operations: Any = nn,
    attention: AttentionFunction = scaled_dot_product_attention,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ImageInjection:
    """Build an image adapter's part within the U-Net with new weights; it attends by the U-Net's own function."""
    return ImageInjection(config, operations=operations, device=device, dtype=dtype)


def build_image_adapter(
    config: ImageAdapterConfig,
    *,
    operations: Any = nn,
    attention: AttentionFunction = scaled_dot_product_attention,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ImageAdapter:
    """Build what brings the image into a base that has no image attention, with new weights."""
    return ImageAdapter(config, operations=operations, attention=attention, device=device, dtype=dtype)


def build_image_retention(
    config: ImageRetentionConfig,
    *,
    operations: Any = nn,
    attention: AttentionFunction = scaled_dot_product_attention,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ImageRetention:
    """Build an image retention branch with new weights."""
    return ImageRetention(config, operations=operations, attention=attention, device=device, dtype=dtype)


def build_look_back(
    config: LookBackConfig,
    *,
    operations: Any = nn,
    attention: AttentionFunction = scaled_dot_product_attention,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> LookBack:
    """Build look-back modules with new weights; they have no attention."""
    return LookBack(config, operations=operations, device=device, dtype=dtype)


def build_autoencoder(
    config: AutoencoderConfig | PatchAutoencoderConfig,
    *,
    operations: Any = nn,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Autoencoder | PatchAutoencoder:
    """Build an image autoencoder with new weights: Stable Diffusion's kind, ToonCrafter's, or our small one's."""
    with torch.device(device or "cpu"):
        if isinstance(config, PatchAutoencoderConfig):
            return PatchAutoencoder(config, operations=operations).to(dtype=dtype)
        if isinstance(config, DualReferenceConfig):
            return DualReferenceAutoencoder(config, operations=operations).to(dtype=dtype)
        return Autoencoder(config, operations=operations).to(dtype=dtype)


def build_text_encoder(
    config: TextEncoderConfig,
    *,
    operations: Any = nn,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TextEncoder:
    """Build one of our small text encoders with new weights."""
    return TextEncoder(config, operations=operations, device=device, dtype=dtype)


def build_temporal_noise_fusion(
    config: TemporalNoiseFusionConfig,
    *,
    operations: Any = nn,
    attention: AttentionFunction = scaled_dot_product_attention,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TemporalNoiseFusion:
    """Build TRIP's temporal noise fusion with new weights."""
    return TemporalNoiseFusion(config, operations=operations, attention=attention, device=device, dtype=dtype)
