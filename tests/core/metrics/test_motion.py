"""Amount of motion, jerk, flicker and dynamic degree in cases that can be worked out, and against numpy."""

import numpy as np
import pytest
import torch

from i2v_core.metrics.motion import dynamic_degree, flow_amount, jerk, motion_amount, temporal_flickering


def test_a_frozen_clip_does_not_move() -> None:
    frozen = (2 * torch.rand(3, 1, 8, 8) - 1).expand(3, 6, 8, 8)
    assert motion_amount(frozen) == jerk(frozen) == 0
    assert temporal_flickering(frozen) == 1


def test_a_linear_fade_moves_without_jerk() -> None:
    fade = torch.linspace(-1, 1, 5).view(1, 5, 1, 1).expand(3, 5, 4, 4)
    assert motion_amount(fade).item() == pytest.approx(0.25)
    assert jerk(fade).item() == pytest.approx(0, abs=1e-7)
    assert temporal_flickering(fade).item() == pytest.approx(0.75)


def test_differences_are_numpys_over_levels() -> None:
    clip = 2 * torch.rand(2, 3, 5, 6, 7) - 1
    levels = (clip.double().numpy() + 1) * 127.5
    first = np.abs(np.diff(levels, axis=2)).mean((1, 2, 3, 4))
    second = np.abs(np.diff(levels, n=2, axis=2)).mean((1, 2, 3, 4))
    np.testing.assert_allclose(motion_amount(clip).numpy(), first / 255, rtol=1e-5)
    np.testing.assert_allclose(jerk(clip).numpy(), second / 255, rtol=1e-5)
    np.testing.assert_allclose(temporal_flickering(clip).numpy(), (255 - first) / 255, rtol=1e-5)


def test_a_clip_is_dynamic_if_a_quarter_of_its_frames_move_far() -> None:
    flow = torch.zeros(15, 2, 256, 256)
    flow[:4, 0, :32] = 7.0  # an eighth of the picture moves 7 pixels in four pairs
    assert dynamic_degree(flow) == 1
    assert dynamic_degree(flow[3:]) == 0
    assert dynamic_degree(flow * 0.8) == 0
    assert flow_amount(flow).item() == pytest.approx(7 * 4 / 15 / 8)


def test_motion_needs_frames_and_finite_pixels() -> None:
    with pytest.raises(ValueError, match="needs at least 2, got 1"):
        motion_amount(torch.zeros(3, 1, 4, 4))
    with pytest.raises(ValueError, match="needs at least 3, got 2"):
        jerk(torch.zeros(3, 2, 4, 4))
    with pytest.raises(ValueError, match="NaN"):
        motion_amount(torch.full((3, 2, 4, 4), torch.nan))
