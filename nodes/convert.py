"""The host's layouts to the core's and back; nowhere else do they meet.

Host: IMAGE `t h w c` in [0, 1], latents `t c h w` (frames as batch, clip after clip). Core: `b c t h w`.
"""

import torch
from einops import rearrange
from torch import Tensor

from ..i2v_core.shapes import VideoShape
from ..i2v_core.video.frames import FitMode, clip_to_frames, fit_image, frames_to_clip, to_rgb


def rows_to_clips(rows: Tensor, frames: int) -> Tensor:
    """Host latents `(b t) c h w` to clips `b c t h w`."""
    return rearrange(rows, "(b t) c h w -> b c t h w", t=frames)


def clips_to_rows(clips: Tensor) -> Tensor:
    """Clips `b c t h w` to host latents `(b t) c h w`."""
    return rearrange(clips, "b c t h w -> (b t) c h w")


def fit_given_image(image: Tensor, height: int, width: int, mode: FitMode, downscale: int) -> Tensor:
    """Bring one IMAGE `1 h w c` to the size of the video, `1 height width 3` in float32.

    Args:
        downscale: pixels per latent position.

    Raises:
        ValueError: more than one picture, NaN, a wrong number of channels, or a size that no latent has.
    """
    if image.ndim != 4 or len(image) != 1:
        count = len(image) if image.ndim == 4 else f"shape {tuple(image.shape)}"
        raise ValueError(f"Expected one picture to animate, got {count}: choose one with ImageFromBatch.")
    VideoShape(1, 3, 1, height, width).to_latent(1, downscale)
    # The host hands out half precision under --fp16-intermediates.
    return fit_image(image.float(), height, width, mode)


def empty_video_latent(latent: Tensor, frames: int) -> dict[str, Tensor]:
    """LATENT of zeros for a video of the given image's latent `1 c h w`: `frames c h w`.

    Raises ValueError for fewer than two frames.
    """
    if frames < 2:
        raise ValueError(f"A video needs at least 2 frames, got {frames}.")
    return {"samples": torch.zeros(frames, *latent.shape[1:])}


def frames_to_pixels(frames: Tensor, name: str) -> Tensor:
    """IMAGE frames `t h w c` to one clip's pixels `3 t h w` in [-1, 1], float32 on the CPU.

    Raises ValueError for other axes, other channels, or NaN; `name` is the input's.
    """
    if frames.ndim != 4:
        raise ValueError(f"Expected {name} as frames `t h w c`, got shape {tuple(frames.shape)}.")
    return frames_to_clip(to_rgb(frames.float().cpu()))


def pixels_to_frames(pixels: Tensor) -> Tensor:
    """A clip's pixels `3 t h w` in [-1, 1] to IMAGE frames `t h w 3` in [0, 1]."""
    return clip_to_frames(pixels)
