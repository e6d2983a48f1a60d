"""Training of TRIP (arXiv:2403.17005, equation 10): the error of the fused prediction trains fusion and U-Net alike."""

from dataclasses import dataclass, replace
from typing import Literal

from ..model.temporal_noise_fusion import (
    TemporalNoiseFusion,
    TemporalNoiseFusionConfig,
    initialize_temporal_noise_fusion,
)
from ..model.video_unet import VideoUNet
from .adapter import Method, is_temporal
from .lesson import denoise


@dataclass(frozen=True)
class TemporalNoiseFusionOptions:
    """What a configuration may choose.

    Attributes:
        trained: which weights of the base learn along: `all` as in the paper, or the layers over time alone, which
            makes a smaller file.
    """

    trained: Literal["all", "temporal"] = "all"


def build(unet: VideoUNet, config: TemporalNoiseFusionConfig) -> TemporalNoiseFusion:
    """A new fusion for the latents of this base."""
    base = unet.config
    without_channels = config.position == "channel" and base.in_channels == base.out_channels
    image_features = base.model_channels if without_channels else None
    config = replace(config, channels=base.out_channels, image_features=image_features)
    fusion = TemporalNoiseFusion(config)
    initialize_temporal_noise_fusion(fusion)
    return fusion


def trained_along(name: str, options: TemporalNoiseFusionOptions) -> bool:
    """Whether a weight of the base is trained: every one, or those of temporal convolutions and transformers."""
    return options.trained == "all" or is_temporal(name)


TEMPORAL_NOISE_FUSION = Method(
    kind="temporal_noise_fusion",
    options=TemporalNoiseFusionOptions,
    build=build,
    loss=denoise,  # of the fused prediction, in what the base predicts (equation 10 for eps)
    trained_along=trained_along,
    learning_rates={"adapter": 2e-4, "unet": 2e-6},
)
