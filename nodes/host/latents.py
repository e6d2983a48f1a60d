"""Latent formats: scale, and the colors of the preview."""

from typing import Any, TypeAlias

import comfy.latent_formats
import torch

from ...i2v_core.model.autoencoder import AutoencoderConfig
from ...i2v_core.model.dual_reference_decoder import DualReferenceConfig
from ...i2v_core.model.patch_autoencoder import PatchAutoencoderConfig

STABLE_DIFFUSION = AutoencoderConfig()
AnyConfig: TypeAlias = AutoencoderConfig | PatchAutoencoderConfig


class ScaledLatents(comfy.latent_formats.LatentFormat):
    """Latents of an autoencoder of our own.

    Args:
        colors: red, green and blue in [-1, 1] that one unit of each channel adds, `c 3`, and those of zero,
            `3`; None leaves the preview out.
    """

    def __init__(self, config: AnyConfig, colors: tuple[list[list[float]], list[float]] | None = None) -> None:
        self.scale_factor = config.scale_factor
        self.latent_channels = config.latent_channels
        self.spacial_downscale_ratio = config.downscale
        if colors is not None:
            self.latent_rgb_factors, self.latent_rgb_factors_bias = colors


def latent_format(config: AnyConfig | None, channels: int, vae: Any) -> Any:
    """Latent format of a network that predicts `channels`; without an autoencoder, Stable Diffusion's."""
    config = config or AutoencoderConfig(latent_channels=channels)
    # ToonCrafter decodes Stable Diffusion's latents, whatever the sizes of its decoder.
    if config == STABLE_DIFFUSION or isinstance(config, DualReferenceConfig):
        return comfy.latent_formats.SD15(config.scale_factor)
    return ScaledLatents(config, preview_colors(vae, config) if vae.first_stage_model is not None else None)


def preview_colors(vae: Any, config: AnyConfig) -> tuple[list[list[float]], list[float]]:
    """Ask the decoder what color each channel adds to a flat latent: one unit up, one down, and zero."""
    units = torch.eye(config.latent_channels)
    flat = torch.cat([units, -units, torch.zeros(1, config.latent_channels)])
    pictures = vae.decode(flat[:, :, None, None].expand(-1, -1, 4, 4) / config.scale_factor)
    up, down, zero = (pictures.float().mean(dim=(1, 2)) * 2 - 1).split([len(units), len(units), 1])
    return ((up - down) / 2).tolist(), zero[0].tolist()
