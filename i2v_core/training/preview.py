"""Previews of a run: the same picture, prompt and seed, as a video and a contact sheet."""

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from ..data.clips import ClipData, DataClip
from ..denoiser import Denoiser
from ..files import atomic_path
from ..generate import GenerateConfig, animate
from ..video import clip_to_frames, read_picture, to_bytes, to_rgb, to_unit_range, write_video
from ..video.frames import fit_size
from ..weights import Checkpoint
from .config import ValidationConfig

COLUMNS = 8


def make_preview(checkpoint: Checkpoint, denoiser: Denoiser, data: ClipData, config: ValidationConfig) -> Tensor:
    """Animate the fixed picture with the weights as they are, at the size of the data: pixels `c t h w` in [-1, 1]."""
    clip = data.clip(config.seed)
    image, prompt = given_picture(clip, config)
    height, width = fit_size(*clip.image.shape[-2:])
    generation = GenerateConfig(
        frames=config.frames, height=height, width=width, steps=config.num_inference_steps, guidance=config.guidance,
        seed=config.seed,
    )  # fmt: skip
    return animate(checkpoint, image, prompt, config=generation, denoiser=denoiser)


def given_picture(clip: DataClip, config: ValidationConfig) -> tuple[Tensor, str]:
    """The picture `h w c` and the prompt of the previews: the configuration's, or else those of a clip of the data."""
    prompt = clip.caption if config.prompt is None else config.prompt
    if config.image is not None:
        return to_rgb(read_picture(config.image)), prompt
    return to_unit_range(rearrange(clip.image, "c h w -> h w c")).clamp(0, 1), prompt


def write_preview(clip: Tensor, path: Path, fps: float) -> Path:
    """Write pixels `c t h w` as `path` (.mp4), and all frames in one picture beside it (.png)."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    frames = clip_to_frames(clip).cpu()
    write_video(path, frames, fps)
    with atomic_path(path.with_suffix(".png")) as temporary:
        Image.fromarray(contact_sheet(to_bytes(frames)).numpy()).save(temporary, format="PNG")
    return path


def contact_sheet(frames: Tensor) -> Tensor:
    """Lay frames `t h w c` in rows of eight: one picture `h w c`."""
    columns = min(COLUMNS, len(frames))
    blank = torch.zeros_like(frames[:1]).expand(-len(frames) % columns, -1, -1, -1)
    return rearrange(torch.cat([frames, blank]), "(r n) h w c -> (r h) (n w) c", n=columns)
