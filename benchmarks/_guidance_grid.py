"""Text scale against image scale with the image retention adapter, on photographs that training never saw.

Every clip asks for a camera move, every move equally often. Each cell of the grid says how close the first frame is to
the given image (SSIM, PSNR in dB), in how many of the clips the measured move is the one asked for (chance 1/7), and
how contrast and brightness of the clips compare with the image. Writes the table as JSON and the first and last
frames of one clip: `python benchmarks/_guidance_grid.py --clips 28 --output grid.json --picture grid.png`.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image, ImageDraw
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _unseen import moves_followed, unseen_clips

from i2v_core import load_checkpoint
from i2v_core.data.moving_crops import CaptionedClip
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.guidance import DualGuidance
from i2v_core.generate import GenerateConfig, encode_conditions, null_conditions
from i2v_core.metrics.pixels import psnr, ssim
from i2v_core.sampling import sample
from i2v_core.video.frames import to_unit_range
from i2v_core.weights import Checkpoint, load_adapter

ROOT = Path(__file__).resolve().parents[1]


def generate(
    checkpoint: Checkpoint, denoiser: Denoiser, items: list[CaptionedClip], steps: int, guidance: DualGuidance
) -> Tensor:
    """Clips `b c t h w` in [-1, 1]; the same noise in every cell of the grid."""
    autoencoder, text_encoder = checkpoint.autoencoder, checkpoint.text_encoder
    assert autoencoder is not None and text_encoder is not None
    pictures = torch.stack([item.pixels[:, 0] for item in items])
    given, empty = autoencoder.encode(pictures)[:, :, None], [""] * len(items)
    config = replace(GenerateConfig(steps=steps).sampling(checkpoint.preset), guidance=guidance)
    latents = sample(
        denoiser,
        encode_conditions(text_encoder, [item.caption for item in items], given, pictures),
        encode_conditions(text_encoder, empty, given, pictures),
        (len(items), given.shape[1], checkpoint.preset.frames, *given.shape[-2:]),
        config,
        seeds=list(range(len(items))),
        null=null_conditions(autoencoder, text_encoder, empty, pictures),
    )
    return autoencoder.decode_clip(latents).clamp(-1, 1)


def score(clips: Tensor, items: list[CaptionedClip]) -> dict[str, float]:
    """One cell of the grid."""
    pictures = torch.stack([item.pixels[:, 0] for item in items])
    followed = moves_followed(clips, items)
    contrast = clips.flatten(1).std(1) / pictures.flatten(1).std(1)
    brightness = (clips.flatten(1).mean(1) - pictures.flatten(1).mean(1)) * 127.5
    return {
        "ssim": round(ssim(clips[:, :, 0], pictures).mean().item(), 4),
        "psnr": round(psnr(clips[:, :, 0], pictures).mean().item(), 2),
        "followed": round(sum(followed) / len(followed), 3),
        "contrast": round(contrast.mean().item(), 3),
        "brightness": round(brightness.mean().item(), 1),
    }


def picture(shown: dict[tuple[float, float], Tensor], texts: list[float], images: list[float]) -> Tensor:
    """First and last frame of one clip in every cell, text scales downwards, image scales to the right: `h w 3`."""
    cells = [[torch.cat([shown[t, i][:, 0], shown[t, i][:, -1]], dim=-1) for i in images] for t in texts]
    rows = [
        torch.cat([torch.nn.functional.pad(cell, (3, 3, 3, 3), value=1.0) for cell in row], dim=-1) for row in cells
    ]
    return rearrange(to_unit_range(torch.cat(rows, dim=-2)), "c h w -> h w c")


def labeled(grid: Image.Image, texts: list[float], images: list[float]) -> Image.Image:
    """The picture of a grid with its scales above and at the left."""
    left, top = 64, 20
    page = Image.new("RGB", (grid.width + left, grid.height + top), "white")
    page.paste(grid, (left, top))
    pen = ImageDraw.Draw(page)
    for column, scale in enumerate(images):
        pen.text((left + (column + 0.5) * grid.width / len(images), top / 2), f"image {scale:g}", "black", anchor="mm")
    for row, scale in enumerate(texts):
        pen.text((left / 2, top + (row + 0.5) * grid.height / len(texts)), f"text {scale:g}", "black", anchor="mm")
    return page


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default=ROOT / "demo" / "i2v_demo.safetensors")
    parser.add_argument("--adapter", default=ROOT / "demo" / "adapters" / "image_retention.safetensors")
    parser.add_argument("--clips", type=int, default=28)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--text", type=float, nargs="+", default=[0.0, 1.0, 2.0, 4.0])
    parser.add_argument("--image", type=float, nargs="+", default=[0.0, 0.5, 1.0, 1.5, 2.0])
    parser.add_argument("--order", default="text_first")
    parser.add_argument("--output")
    parser.add_argument("--picture")
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.checkpoint)
    denoiser = Denoiser.adapted(checkpoint.unet, checkpoint.preset, [load_adapter(options.adapter)])
    items = unseen_clips(options.clips)
    cells, shown = [], {}
    for text in options.text:
        for image in options.image:
            started = time.monotonic()
            clips = generate(checkpoint, denoiser, items, options.steps, DualGuidance(text, image, options.order))
            cells.append({"text": text, "image": image, **score(clips, items)})
            shown[text, image] = clips[0]
            print(cells[-1], f"{time.monotonic() - started:.0f} s", flush=True)
    if options.output:
        report = {"clips": options.clips, "steps": options.steps, "order": options.order, "cells": cells}
        Path(options.output).write_text(json.dumps(report, indent=1) + "\n")
    if options.picture:
        made = Image.fromarray((picture(shown, options.text, options.image) * 255).round().byte().numpy())
        enlarged = made.resize((2 * made.width, 2 * made.height), Image.Resampling.NEAREST)
        labeled(enlarged, options.text, options.image).save(options.picture)


if __name__ == "__main__":
    main()
