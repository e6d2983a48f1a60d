"""Clips depend on configuration and index only, show the motion they name, and stay inside the photograph."""

import pytest
import torch

from i2v_core.data.moving_crops import (
    MOTIONS,
    PHRASES,
    TEST_PHOTOGRAPHS,
    TRAIN_PHOTOGRAPHS,
    MovingCrops,
    MovingCropsConfig,
    photograph_path,
)
from i2v_core.metrics.camera_motion import measure_camera_motion


def test_a_clip_depends_on_seed_and_index_only() -> None:
    first = MovingCrops(MovingCropsConfig(seed=3)).clip(7)
    again = MovingCrops(MovingCropsConfig(seed=3))
    again.clip(2)
    torch.testing.assert_close(again.clip(7).pixels, first.pixels, rtol=0, atol=0)
    assert again.clip(7).caption == first.caption
    assert not torch.equal(MovingCrops(MovingCropsConfig(seed=4)).clip(7).pixels, first.pixels)


def test_shape_and_range() -> None:
    clip = MovingCrops(MovingCropsConfig(frames=5, size=48)).clip(0).pixels
    assert clip.shape == (3, 5, 48, 48)
    assert -1 <= clip.min() <= clip.max() <= 1


def test_training_and_test_photographs_are_different_and_present() -> None:
    assert not set(TRAIN_PHOTOGRAPHS) & set(TEST_PHOTOGRAPHS)
    assert all(photograph_path(name).is_file() for name in TRAIN_PHOTOGRAPHS + TEST_PHOTOGRAPHS)


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_caption_names_the_motion_that_is_shown(motion: str) -> None:
    data = MovingCrops(MovingCropsConfig(seed=1, photographs=TEST_PHOTOGRAPHS))
    clips = [data.clip(index, motion) for index in range(10)]
    measured = [measure_camera_motion(clip.pixels).motion for clip in clips]
    assert measured.count(motion) >= 9
    for clip in clips:
        assert any(clip.caption.endswith(phrase) for phrase in PHRASES[motion])


def test_phrases_of_different_motions_never_coincide() -> None:
    every = [phrase for phrases in PHRASES.values() for phrase in phrases]
    assert len(every) == len(set(every))


def test_all_motions_start_from_the_same_kind_of_frame() -> None:
    """The first frame must not betray the motion: left and right differ in the later frames only."""
    data = MovingCrops(MovingCropsConfig())
    left, right = data.clip(5, "left").pixels, data.clip(5, "right").pixels
    torch.testing.assert_close(left[:, 0], right[:, 0], rtol=0, atol=1e-2)
    assert (left[:, -1] - right[:, -1]).abs().mean() > 0.01
