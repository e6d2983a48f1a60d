"""Measure a text-to-video base of moving figures: are named figures told apart, and do they move as told?

Usage: `python benchmarks/_figure_base.py MODEL.safetensors --clips 56 --sheet sheet.png`

A figure is told by its picture from six others: which of the seven, drawn over the clip's own background at the sizes
of its data, is closest to the clip's first frame (chance 0.14). A motion is the one of the data's whose path of the
first frame's middle explains the later frames best. Both are also measured on true clips.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from i2v_core import Checkpoint, load_checkpoint
from i2v_core.conditions import Conditions
from i2v_core.data.figures import Figures, FiguresConfig, motion_path
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.guidance import ClassifierFreeGuidance
from i2v_core.sampling import SamplingConfig, sample
from i2v_core.training.config_file import parse_config

OTHERS = 6


def made(checkpoint: Checkpoint, captions: Sequence[str], seeds: list[int], steps: int, guidance: float) -> Tensor:
    """Clips `b 3 t h w` in [-1, 1] of captions alone."""
    text_encoder, autoencoder, preset = checkpoint.text_encoder, checkpoint.autoencoder, checkpoint.preset
    assert text_encoder is not None and autoencoder is not None
    told, nothing = (
        Conditions(text=tokens, pooled_text=pooled)
        for tokens, pooled in (text_encoder.encode(list(texts)) for texts in (captions, [""] * len(captions)))
    )
    channels, factor = checkpoint.unet.config.out_channels, autoencoder.config.downscale
    shape = (len(captions), channels, preset.frames, preset.height // factor, preset.width // factor)
    config = SamplingConfig(steps, preset.spacing, ClassifierFreeGuidance(guidance))
    denoiser = Denoiser.of(checkpoint.unet, preset)
    return autoencoder.decode_clip(sample(denoiser, told, nothing, shape, config, seeds=seeds)).clamp(-1, 1)


def told_figure(data: Figures, index: int, frame: Tensor) -> bool:
    """Whether a first frame `3 h w` in [-1, 1] is closest to its figure's picture among seven."""
    scene, config, shown = data.draw(index)[0], data.config, (frame + 1) / 2
    border = torch.cat([shown[:, :3].flatten(1), shown[:, -3:].flatten(1)], 1).mean(1)[None, :, None, None]
    place = data.names.index(scene.figure)
    step = max(1, len(data.names) // (OTHERS + 1))
    candidates = [data.names[(place + i * step) % len(data.names)] for i in range(OTHERS + 1)]
    middle = config.size // 4
    errors = []
    for name in candidates:
        for side in torch.linspace(*config.sides, 3).tolist():
            drawn = replace(scene, figure=name, side=side, center=(0.0, 0.0), angle=0.0, background=border)
            difference = (data.render(drawn, "still")[:, 0] - shown)[:, middle:-middle, middle:-middle]
            errors.append((difference.square().mean().item(), name))
    return min(errors)[1] == candidates[0]


def told_motion(config: FiguresConfig, clip: Tensor, speed: float) -> str:
    """The motion whose path takes the middle of the first frame to the later ones of a clip `3 t h w` best."""
    frames, size = clip.shape[1], clip.shape[2]
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    disk = (x.square() + y.square() < 0.5**2).float()[None, None].expand(frames, 1, -1, -1)
    first = clip[:, :1].transpose(0, 1).expand(frames, -1, -1, -1)
    errors = []
    for motion in config.motions:
        path = motion_path(motion, frames, speed)
        cos, sin = path.angle.cos(), path.angle.sin()
        rows = torch.stack([cos, sin, -sin, cos], -1).unflatten(-1, (2, 2)) / path.scale[:, None, None]
        theta = torch.cat([rows, -2 * (rows @ path.place[..., None])], -1)
        grid = F.affine_grid(theta, [frames, 1, size, size], align_corners=False)
        moved, seen = (F.grid_sample(each, grid, align_corners=False) for each in (first, disk))
        error = ((moved - clip.transpose(0, 1)).square() * seen)[1:].sum() / (3 * seen[1:].sum())
        errors.append((error.item(), motion))
    return min(errors)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--clips", type=int, default=56)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--sheet")
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.checkpoint)
    config = parse_config(json.loads(checkpoint.metadata["i2v.train_config"])).data
    data = Figures(replace(config, seed=2, named=1.0))
    motions = config.motions
    items = [data.clip(i, motions[i % len(motions)]) for i in range(options.clips)]
    scores: dict[str, list[bool]] = {"figure": [], "true figure": [], "motion": [], "true motion": []}
    clips: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(items), len(motions)):
            numbers = list(range(start, min(start + len(motions), len(items))))
            captions = [items[i].caption for i in numbers]
            clips += made(checkpoint, captions, numbers, options.steps, options.guidance)
    for index, (item, clip) in enumerate(zip(items, clips, strict=True)):
        speed = {"slowly": 0.5, "quickly": 1.5}.get(data.draw(index, item.motion)[0].speed, 1.0)
        for name, pixels in (("", clip), ("true ", item.pixels)):
            scores[f"{name}figure"].append(told_figure(data, index, pixels[:, 0]))
            scores[f"{name}motion"].append(told_motion(config, pixels, speed) == item.motion)
    print({name: round(sum(values) / len(values), 3) for name, values in scores.items()}, f"of {len(items)} clips")
    if options.sheet:
        shown = torch.stack(clips[: 2 * len(motions)])
        pixels = ((rearrange(shown, "n c t h w -> (n h) (t w) c") + 1) * 127.5).clamp(0, 255).byte()
        Image.fromarray(pixels.numpy()).save(options.sheet)
        print("\n".join(item.caption for item in items[: 2 * len(motions)]))


if __name__ == "__main__":
    main()
