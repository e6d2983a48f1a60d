"""Clips of photographs that training never saw, each with a camera move to ask for, and what a model makes of them."""

from typing import Any

import torch
from torch import Tensor

from i2v_core.data.moving_crops import MOTIONS, TEST_PHOTOGRAPHS, CaptionedClip, MovingCrops, MovingCropsConfig
from i2v_core.denoiser import Denoiser
from i2v_core.generate import GenerateConfig, encode_conditions
from i2v_core.metrics.camera_motion import measure_camera_motion
from i2v_core.sampling import sample
from i2v_core.weights import Checkpoint


def unseen_clips(count: int) -> list[CaptionedClip]:
    """So many clips, every move equally often."""
    data = MovingCrops(MovingCropsConfig(seed=1, photographs=TEST_PHOTOGRAPHS))
    return [data.clip(i, MOTIONS[i % len(MOTIONS)]) for i in range(count)]


def moves_followed(clips: Tensor, items: list[CaptionedClip]) -> list[bool]:
    """Whether the measured move of each of the clips `b c t h w` is the one asked for; chance is 1/7."""
    return [measure_camera_motion(clip).motion == item.motion for clip, item in zip(clips, items, strict=True)]


def generate(checkpoint: Checkpoint, network: Any, items: list[CaptionedClip], steps: int) -> Tensor:
    """Clips `b c t h w` in [-1, 1], one after the other, as users make them."""
    autoencoder, text_encoder, preset = checkpoint.autoencoder, checkpoint.text_encoder, checkpoint.preset
    assert autoencoder is not None and text_encoder is not None
    denoiser, made = Denoiser.of(network, preset), []
    for i, item in enumerate(items):
        picture = item.pixels[:, 0][None]
        given = autoencoder.encode(picture)[:, :, None]
        conditions = [encode_conditions(text_encoder, [text], given, picture) for text in (item.caption, "")]
        shape = (1, given.shape[1], preset.frames, *given.shape[-2:])
        made.append(sample(denoiser, *conditions, shape, GenerateConfig(steps=steps).sampling(preset), seeds=[i]))
    return autoencoder.decode_clip(torch.cat(made)).clamp(-1, 1)
