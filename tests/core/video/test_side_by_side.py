"""The picture stands still on the left; on the right the video runs."""

import torch

from i2v_core.video import side_by_side


def test_picture_and_frames_keep_their_sides_and_colors() -> None:
    picture = torch.full((20, 30, 3), 200, dtype=torch.uint8)
    frames = torch.linspace(0, 1, 5)[:, None, None, None].expand(-1, 8, 16, 3)
    shown = side_by_side(picture, frames, 32)
    assert shown.shape == (5, 32, 128, 3) and shown.dtype == torch.uint8
    assert (shown[:, :, :64] == 200).all()
    assert [round(255 * i / 4) for i in range(5)] == shown[:, 16, 96, 0].tolist()
