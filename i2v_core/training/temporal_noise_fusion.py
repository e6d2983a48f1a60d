"""Training of TRIP (arXiv:2403.17005, equation 10): the error of the fused prediction trains fusion and U-Net alike."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..build import build_temporal_noise_fusion
from ..denoiser import Denoiser
from ..model.temporal_noise_fusion import (
    TemporalNoiseFusion,
    TemporalNoiseFusionConfig,
    initialize_temporal_noise_fusion,
)
from ..model.video_unet import VideoUNet
from ..weights import Checkpoint
from .adapter import Method, Objective, is_temporal
from .clips import ClipBatch, TimestepConfig, drop, encode_texts, noise_clips


@dataclass(frozen=True)
class TemporalNoiseFusionOptions:
    """What a recipe may choose.

    Attributes:
        trained: which weights of the base learn along: `all` as in the paper, or the layers over time alone, which
            makes a smaller file.
        text_drop: share of the clips that lose their caption.
    """

    trained: Literal["all", "temporal"] = "all"
    text_drop: float = 0.1
    timesteps: TimestepConfig = field(default_factory=TimestepConfig)


def build(unet: VideoUNet, config: TemporalNoiseFusionConfig) -> TemporalNoiseFusion:
    """A new fusion for the latents of this base."""
    base = unet.config
    without_channels = config.position == "channel" and base.in_channels == base.out_channels
    image_features = base.model_channels if without_channels else None
    config = replace(config, channels=base.out_channels, image_features=image_features)
    fusion = build_temporal_noise_fusion(config)
    initialize_temporal_noise_fusion(fusion)
    return fusion


def objective(checkpoint: Checkpoint, fusion: TemporalNoiseFusion, options: TemporalNoiseFusionOptions) -> Objective:
    """Mean squared error of the fused prediction, in what the base predicts (equation 10 for eps)."""
    assert checkpoint.text_encoder is not None
    text_encoder, preset = checkpoint.text_encoder, checkpoint.preset
    denoiser = replace(Denoiser.of(checkpoint.unet, preset), temporal_noise_fusion=fusion)

    def loss(batch: ClipBatch, generator: torch.Generator) -> Tensor:
        latents, count = batch.latents, len(batch.captions)
        timesteps = options.timesteps.draw(count, preset.schedule.timesteps, generator)
        dropped = drop(count, options.text_drop, generator)
        conditions = encode_texts(text_encoder, batch.captions, dropped, latents[:, :, :1])
        z, wanted = noise_clips(denoiser, latents, timesteps, conditions, generator)
        return F.mse_loss(denoiser.predict(z, timesteps.to(latents.device), conditions).float(), wanted)

    return loss


def trained_along(name: str, options: TemporalNoiseFusionOptions) -> bool:
    """Whether a weight of the base is trained: every one, or those of temporal convolutions and transformers."""
    return options.trained == "all" or is_temporal(name)


TEMPORAL_NOISE_FUSION = Method(
    TemporalNoiseFusionOptions, build, objective, trained_along, learning_rates={"adapter": 2e-4, "unet": 2e-6}
)
