"""Camera motion of a clip, measured by warping its first frame: the motion that explains the later frames best.

No learned judge: each candidate move, at several speeds, is applied to the first frame and compared with what the clip
shows where the moved frame has content.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SPEEDS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}


@dataclass(frozen=True)
class CameraMotion:
    """The best candidate and how well each explains the clip."""

    motion: str
    errors: dict[str, float]  # mean squared error of the best speed, per motion


def warp_first_frame(frame: Tensor, offset: tuple[float, float], relative_side: float) -> tuple[Tensor, Tensor]:
    """View of a window that moved by `offset` (x, y; in window sides) and scaled its side by `relative_side`.

    Args:
        frame: `c h w`.

    Returns:
        The warped frame `c h w` and a mask `h w`, true where it lies inside the first frame.
    """
    height, width = frame.shape[-2:]
    theta = torch.tensor([[relative_side, 0, 2 * offset[0]], [0, relative_side, 2 * offset[1]]], dtype=frame.dtype)
    grid = F.affine_grid(theta[None], [1, 1, height, width], align_corners=False)
    warped = F.grid_sample(frame[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
    return warped, (grid[0].abs() <= 1).all(-1)


def measure_camera_motion(
    clip: Tensor,
    *,
    pan_per_frame: float = 1 / 32,
    zoom_per_frame: float = 1.04,
    first_frame: Tensor | None = None,
) -> CameraMotion:
    """Find the move (left, right, up, down, in, out, still) that explains the clip best.

    Args:
        clip: pixels in [-1, 1], `c t h w`, at least two frames.
        pan_per_frame: nominal pan of one frame, in frame sides; zoom_per_frame: nominal zoom factor of one frame.
            Each is tried at a quarter to one and a half times its nominal speed.
        first_frame: what to warp instead of the clip's own first frame, `c h w`.
    """
    frames = clip.shape[1]
    if frames < 2:
        raise ValueError(f"motion needs at least two frames, got {frames}")
    source = clip[:, 0] if first_frame is None else first_frame
    checked = sorted({frames // 2, (3 * (frames - 1)) // 4, frames - 1} - {0})

    def error(offset: tuple[float, float], zoom: float) -> float:
        total = 0.0
        for frame in checked:
            moved = (offset[0] * frame, offset[1] * frame)
            warped, inside = warp_first_frame(source, moved, zoom**frame)
            total += (warped - clip[:, frame]).square().mean(0)[inside].mean().item()
        return total / len(checked)

    errors = {"still": error((0.0, 0.0), 1.0)}
    for name, (x, y) in DIRECTIONS.items():
        errors[name] = min(error((x * s * pan_per_frame, y * s * pan_per_frame), 1.0) for s in SPEEDS)
    errors["in"] = min(error((0.0, 0.0), zoom_per_frame**-s) for s in SPEEDS)
    errors["out"] = min(error((0.0, 0.0), zoom_per_frame**s) for s in SPEEDS)
    return CameraMotion(min(errors, key=errors.__getitem__), errors)
