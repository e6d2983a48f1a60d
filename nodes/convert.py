"""The host's layouts to the core's and back; nowhere else do they meet.

Host: IMAGE `t h w c` in [0, 1], latents `t c h w` (frames as batch, clip after clip). Core: `b c t h w`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..i2v_core.video.audio import Audio
from ..i2v_core.video.frames import (
    FitMode,
    check_size,
    clip_to_frames,
    fit_image,
    frames_to_clip,
    to_model_range,
    to_rgb,
)


def rows_to_clips(rows: Tensor, frames: int) -> Tensor:
    """Host latents `(b t) c h w` to clips `b c t h w`."""
    return rearrange(rows, "(b t) c h w -> b c t h w", t=frames)


def clips_to_rows(clips: Tensor) -> Tensor:
    """Clips `b c t h w` to host latents `(b t) c h w`."""
    return rearrange(clips, "b c t h w -> (b t) c h w")


def pictures_to_core(images: Tensor) -> Tensor:
    """IMAGE `n h w 3` in [0, 1] to pictures `n 3 h w` in [-1, 1], float32."""
    return rearrange(to_model_range(images.float()), "n h w c -> n c h w")


def channels_first(images: Tensor) -> Tensor:
    """IMAGE `t h w c` to `c t h w` in the same range."""
    return rearrange(images, "t h w c -> c t h w")


def frames_first(clip: Tensor) -> Tensor:
    """`c t h w` to IMAGE `t h w c` in the same range."""
    return rearrange(clip, "c t h w -> t h w c").contiguous()


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
    check_size(height, width, downscale)
    # The host hands out half precision under --fp16-intermediates.
    return fit_image(image.float(), height, width, mode)


def empty_video_latent(latent: Tensor, frames: int) -> dict[str, Tensor]:
    """LATENT of zeros for a video of the given image's latent `1 c h w`: `frames c h w`.

    Raises ValueError for fewer than two frames.
    """
    if frames < 2:
        raise ValueError(f"A video needs at least 2 frames, got {frames}.")
    return {"samples": torch.zeros(frames, *latent.shape[1:])}


def share_image_tokens(tokens: Tensor) -> Tensor:
    """Image tokens `1 t k d` of every frame as `1 (t k) d` shared by all frames; shared ones stay as they are."""
    return tokens if tokens.ndim == 3 else rearrange(tokens, "b t k d -> b (t k) d")


def latent_size(latent: Tensor) -> str:
    """Size of a host latent `t c h w` in words, for sentences."""
    _, channels, height, width = latent.shape
    return f"{width} x {height} with {channels} channels"


def empty_image_latents(frames: int, height: int, width: int) -> dict[str, Tensor]:
    """LATENT of zeros for a video of these pixels in Stable Diffusion's latents, `frames 4 h w`.

    Raises ValueError for fewer than one frame, or a size that no latent has.
    """
    _check_frames(frames)
    check_size(height, width)
    return {"samples": torch.zeros(frames, 4, height // 8, width // 8)}


def pinned_video_latent(first: Tensor, frames: int) -> dict[str, Tensor]:
    """LATENT `frames c h w` that begins with this latent `1 c h w`; its mask keeps any sampler from changing it.

    Raises ValueError for fewer than one frame.
    """
    _check_frames(frames)
    rest = torch.zeros(frames - 1, *first.shape[1:]).to(first)
    mask = torch.ones(frames, *first.shape[2:])
    mask[0] = 0
    return {"samples": torch.cat([first, rest]), "noise_mask": mask}


def _check_frames(frames: int) -> None:
    if frames < 1:
        raise ValueError(f"A video needs at least 1 frame, got {frames}.")


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


def to_audio(audio: Mapping[str, Any] | None) -> Audio | None:
    """AUDIO, whose waveform is `1 c s`, to the core's.

    Raises:
        ValueError: several sounds in one batch, or as `Audio`.
    """
    if audio is None:
        return None
    waveform = audio["waveform"]
    if waveform.ndim != 3 or len(waveform) != 1:
        raise ValueError(f"Expected one sound, a waveform `1 c s`, got {tuple(waveform.shape)}: pass one at a time.")
    return Audio(waveform[0], int(audio["sample_rate"]))
