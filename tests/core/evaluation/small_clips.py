"""Small moving crops as files: what the evaluation reads."""

import json
from pathlib import Path

import torch
from PIL import Image

from i2v_core.data.moving_crops import MOTIONS, TEST_PHOTOGRAPHS, MovingCrops, MovingCropsConfig
from i2v_core.video import Encoding, clip_to_frames, to_bytes, write_video


def moving_crops(size: int = 64, frames: int = 8) -> MovingCrops:
    return MovingCrops(MovingCropsConfig(frames=frames, size=size, seed=1, photographs=TEST_PHOTOGRAPHS))


def write_clips(root: Path, count: int = 3, size: int = 32, frames: int = 5) -> dict[str, Path]:
    """Write `good` and `bad` results with noise of two strengths, `truth` with given images, and captions.json."""
    folders = {name: root / name for name in ("good", "bad", "truth")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    captions = {}
    for i in range(count):
        clip = moving_crops(size, frames).clip(i, MOTIONS[i % len(MOTIONS)])
        noise = torch.randn(clip.pixels.shape, generator=torch.Generator().manual_seed(i))
        for name, strength in (("truth", 0.0), ("good", 0.05), ("bad", 0.3)):
            pixels = (clip.pixels + strength * noise).clamp(-1, 1)
            write_video(folders[name] / f"clip{i}.mp4", to_bytes(clip_to_frames(pixels)), 8, Encoding(crf=5))
        Image.fromarray(to_bytes(clip_to_frames(clip.pixels[:, :1]))[0].numpy()).save(folders["truth"] / f"clip{i}.png")
        captions[f"clip{i}"] = clip.caption
    (root / "captions.json").write_text(json.dumps(captions))
    return folders
