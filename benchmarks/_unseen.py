"""Clips of photographs that training never saw, each with a camera move to ask for."""

from torch import Tensor

from i2v_core.data.moving_crops import MOTIONS, TEST_PHOTOGRAPHS, CaptionedClip, MovingCrops, MovingCropsConfig
from i2v_core.metrics.camera_motion import measure_camera_motion


def unseen_clips(count: int) -> list[CaptionedClip]:
    """So many clips, every move equally often."""
    data = MovingCrops(MovingCropsConfig(seed=1, photographs=TEST_PHOTOGRAPHS))
    return [data.clip(i, MOTIONS[i % len(MOTIONS)]) for i in range(count)]


def moves_followed(clips: Tensor, items: list[CaptionedClip]) -> list[bool]:
    """Whether the measured move of each of the clips `b c t h w` is the one asked for; chance is 1/7."""
    return [measure_camera_motion(clip).motion == item.motion for clip, item in zip(clips, items, strict=True)]
