"""Warps of a known move are measured as that move."""

import pytest
import torch

from i2v_core.data.moving_crops import MovingCrops, MovingCropsConfig
from i2v_core.metrics.camera_motion import DIRECTIONS, measure_camera_motion, warp_first_frame


@pytest.fixture(scope="module")
def frame() -> torch.Tensor:
    return MovingCrops(MovingCropsConfig(frames=1, photographs=("skimage:chelsea.png",))).clip(1).pixels[:, 0]


def test_no_move_is_the_frame_itself(frame: torch.Tensor) -> None:
    warped, inside = warp_first_frame(frame, (0.0, 0.0), 1.0)
    torch.testing.assert_close(warped, frame, rtol=0, atol=1e-4)
    assert inside.all()


def test_a_window_that_moves_right_shows_content_moved_left(frame: torch.Tensor) -> None:
    warped, inside = warp_first_frame(frame, (0.25, 0.0), 1.0)
    side = frame.shape[-1]
    torch.testing.assert_close(warped[..., : 3 * side // 4], frame[..., side // 4 :], rtol=0, atol=1e-3)
    assert not inside[:, 3 * side // 4 + 1 :].any()


@pytest.mark.parametrize("motion", DIRECTIONS)
@pytest.mark.parametrize("speed", [0.5, 1.0])
def test_pans_are_recognized_at_several_speeds(frame: torch.Tensor, motion: str, speed: float) -> None:
    x, y = DIRECTIONS[motion]
    step = speed / 32
    clip = torch.stack([warp_first_frame(frame, (x * i * step, y * i * step), 1.0)[0] for i in range(8)], dim=1)
    assert measure_camera_motion(clip).motion == motion


@pytest.mark.parametrize(("motion", "factor"), [("in", 1 / 1.04), ("out", 1.04), ("still", 1.0)])
def test_zooms_and_stillness_are_recognized(frame: torch.Tensor, motion: str, factor: float) -> None:
    clip = torch.stack([warp_first_frame(frame, (0.0, 0.0), factor**i)[0] for i in range(8)], dim=1)
    assert measure_camera_motion(clip).motion == motion


def test_one_frame_has_no_motion(frame: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="at least two frames, got 1"):
        measure_camera_motion(frame[:, None])
