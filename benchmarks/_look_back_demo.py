"""Measure look-back adapters of the demo: motion, errors at four times the training length, video in pieces.

Usage: `python benchmarks/_look_back_demo.py demo/adapters/look_back.safetensors --output report.json`
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from i2v_core import Checkpoint, load_checkpoint
from i2v_core.data.moving_crops import MOTIONS, TEST_PHOTOGRAPHS, MovingCrops, MovingCropsConfig
from i2v_core.denoiser import Denoiser
from i2v_core.evaluation import evaluate_motion
from i2v_core.generate import GenerateConfig, encode_conditions
from i2v_core.methods import LookBackMethod
from i2v_core.model.look_back import LookBackState
from i2v_core.sampling import per_clip_noise, sample, sample_pieces
from i2v_core.weights import load_adapter

LONGER = 4


def adapted(base: Path, adapter: Path) -> tuple[Checkpoint, Denoiser]:
    """A fresh base with the adapter, initialized as it was trained."""
    checkpoint, loaded = load_checkpoint(base), load_adapter(adapter)
    return checkpoint, Denoiser.adapted(checkpoint.unet, checkpoint.preset, [loaded])


def in_pieces(checkpoint: Checkpoint, denoiser: Denoiser, config: GenerateConfig) -> dict[str, float]:
    """Largest difference of a video in four pieces from the same video at once, relative to its largest value."""
    frames, autoencoder, text_encoder = checkpoint.preset.frames, checkpoint.autoencoder, checkpoint.text_encoder
    assert autoencoder is not None and text_encoder is not None
    clip = MovingCrops(MovingCropsConfig(seed=1, photographs=TEST_PHOTOGRAPHS)).clip(0, "left")
    sampling = config.sampling(checkpoint.preset)
    with torch.no_grad():
        given = autoencoder.encode_clip(clip.pixels[None, :, :1])
        conditions = [encode_conditions(text_encoder, [text], given) for text in (clip.caption, "")]
        shape = (1, given.shape[1], LONGER * frames, *given.shape[-2:])
        whole = sample(denoiser, conditions[0], conditions[1], shape, sampling, seeds=[0])
        noise, states = per_clip_noise(shape, [0], given.device)(-1), [LookBackState() for _ in range(sampling.steps)]
        pieces = torch.cat(
            list(sample_pieces(denoiser, conditions[0], conditions[1], noise, sampling, frames=frames, states=states)),
            dim=2,
        )
    difference = (pieces - whole).abs() / whole.abs().max()
    return {
        "largest_difference": difference.max().item(),
        "mean_difference": difference.mean().item(),
        "carried_bytes_of_a_step": states[0].nbytes,
        "first_frame_difference": (whole[:, :, :1] - given).abs().max().item(),
    }


def measured(base: Path, adapter: Path | None, options: argparse.Namespace) -> dict[str, Any]:
    """Everything about one adapter, or about the base alone."""
    config = GenerateConfig(steps=options.steps, guidance=options.guidance)
    if adapter is None:
        checkpoint = load_checkpoint(base)
        denoiser = Denoiser.of(checkpoint.unet, checkpoint.preset)
    else:
        checkpoint, denoiser = adapted(base, adapter)
    longer = replace(checkpoint, preset=replace(checkpoint.preset, frames=LONGER * checkpoint.preset.frames))
    report: dict[str, Any] = {
        "clips": evaluate_motion(checkpoint, clips=options.clips, denoiser=denoiser, config=config).asdict()
    }
    if options.long_clips:
        report["four_times_longer"] = evaluate_motion(
            longer, clips=options.long_clips, batch=len(MOTIONS), denoiser=denoiser, config=config
        ).asdict()
    if (method := denoiser.find(LookBackMethod)) is not None:
        report["look_back"] = asdict(method.module.config) | {"initialization": method.initialization.name}
        report["pieces"] = in_pieces(checkpoint, denoiser, config)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapters", nargs="*", type=Path, help="none: the base alone")
    parser.add_argument("--base", type=Path, default=Path("demo/i2v_demo_image.safetensors"))
    parser.add_argument("--clips", type=int, default=70)
    parser.add_argument("--long-clips", type=int, default=28)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    reports = {}
    for adapter in options.adapters or [None]:
        name = (
            options.base.stem if adapter is None else adapter.stem if adapter.stem != "model" else adapter.parent.name
        )
        reports[name] = measured(options.base, adapter, options)
        clips = reports[name]["clips"]
        print(f"{name}: accuracy {clips['accuracy']:.3f}, PSNR {clips['psnr']}", flush=True)
        if "four_times_longer" in reports[name]:
            long = reports[name]["four_times_longer"]
            print(f"  {LONGER} times longer: PSNR {long['psnr'][7::8]}, copied {long['frozen_psnr'][6::8]}", flush=True)
        if "pieces" in reports[name]:
            print(f"  pieces: {reports[name]['pieces']}", flush=True)
    if options.output:
        options.output.write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
