"""Measure a model of moving figures on figures that no training saw, and lay its clips out to be looked at.

Usage: `python benchmarks/_figures.py MODEL.safetensors --adapter TRIP.safetensors --sheet sheet.png`

The sheet has a clip in every two rows: the model's frames, and the true future.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from i2v_core import Checkpoint, load_checkpoint
from i2v_core.data.figures import Figures
from i2v_core.denoiser import Denoiser
from i2v_core.evaluation import evaluate_motion
from i2v_core.generate import GenerateConfig, animate
from i2v_core.training.config_file import parse_config
from i2v_core.weights import load_adapter


def unseen(checkpoint: Checkpoint, backgrounds: tuple[str, ...] | None) -> Figures:
    """Clips like those of a checkpoint's training, of figures, backgrounds and phrases that it never saw."""
    data = parse_config(json.loads(checkpoint.metadata["i2v.train_config"])).data
    data = replace(data, split="test", seed=1, frames=checkpoint.preset.frames, size=checkpoint.preset.height)
    return Figures(data if backgrounds is None else replace(data, backgrounds=backgrounds))


def sheet(checkpoint: Checkpoint, denoiser: Denoiser, data: Figures, config: GenerateConfig, rows: int) -> Image.Image:
    """Clips under one motion after the other, each above its true future, every second frame, enlarged."""
    strips: list[Tensor] = []
    for index in range(rows):
        clip = data.clip(index, data.config.motions[index % len(data.config.motions)])
        picture = ((clip.image.permute(1, 2, 0) + 1) / 2).clamp(0, 1)
        made = animate(checkpoint, picture, clip.caption, config=replace(config, seed=index), denoiser=denoiser)
        print(index, clip.caption)
        strips += [made, clip.pixels]
    shown = torch.stack(strips)[:, :, :: max(1, data.config.frames // 8)]
    pixels = ((rearrange(shown, "n c t h w -> (n h) (t w) c") + 1) * 127.5).clamp(0, 255).byte()
    return Image.fromarray(pixels.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--adapter", action="append", default=[])
    parser.add_argument("--clips", type=int, default=140)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--backgrounds", nargs="*")
    parser.add_argument("--output")
    parser.add_argument("--sheet")
    parser.add_argument("--rows", type=int, default=8)
    options = parser.parse_args()

    checkpoint = load_checkpoint(options.checkpoint)
    denoiser = Denoiser.adapted(checkpoint.unet, checkpoint.preset, [load_adapter(path) for path in options.adapter])
    data = unseen(checkpoint, options.backgrounds and tuple(options.backgrounds))
    config = GenerateConfig(steps=options.steps, guidance=options.guidance)
    if options.sheet:
        sheet(checkpoint, denoiser, data, config, options.rows).save(options.sheet)
    if options.clips:
        report = evaluate_motion(checkpoint, clips=options.clips, denoiser=denoiser, config=config, data=data)
        text = json.dumps(report.asdict(), indent=1)
        print(text)
        if options.output:
            Path(options.output).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
