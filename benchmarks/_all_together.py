"""The four methods on the demo model: together, each left out, each alone, none; on photographs training never saw.

Every clip asks for a camera move, each equally often, with the same noise in every variant. A row says in how many
clips the measured move is the one asked for (chance 1/7), PSNR in dB of the first frame to the given image and of all
frames to the true future (moving clips), how alike the frames are to the given image for the small image encoder of the
image projection (the mean cosine of its global token, in the manner of ISIM), and what it costs: processor seconds of
one guided pass, bytes of weights and the most that tensors hold in a pass, relative to the base alone.

Usage: `python benchmarks/_all_together.py --clips 28 --output docs/all_together.json`, row after row, going on
where it was interrupted; `--table` prints what is in that file as Markdown instead.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._measure import peak_memory, seconds
from benchmarks._unseen import moves_followed, unseen_clips
from i2v_core import Checkpoint, load_checkpoint
from i2v_core.data.moving_crops import CaptionedClip
from i2v_core.denoiser import Denoiser
from i2v_core.generate import GenerateConfig, encode_conditions
from i2v_core.methods import ImageProjectionMethod
from i2v_core.metrics.pixels import psnr
from i2v_core.metrics.similarity import isim_average, isim_curve
from i2v_core.model.image_encoder import ImageEncoder
from i2v_core.sampling import guided, per_clip_noise, sample
from i2v_core.weights import load_adapter

DEMO = Path(__file__).resolve().parents[1] / "demo"
FILES = {
    "image projection": "image_projection",
    "image retention": "image_retention",
    "look-back": "look_back_demo",
    "TRIP": "temporal_noise_fusion",
}


def variants() -> dict[str, tuple[str, ...]]:
    """Methods at work, by the name of the row."""
    every = tuple(FILES)
    rows = {"all four": every, "none": ()}
    rows |= {f"without {out}": tuple(name for name in every if name != out) for out in every}
    return rows | {f"{name} alone": (name,) for name in every}


def adapted(names: tuple[str, ...]) -> tuple[Checkpoint, Denoiser]:
    """A fresh base with the adapters of these methods."""
    checkpoint = load_checkpoint(DEMO / "i2v_demo.safetensors")
    adapters = [load_adapter(DEMO / f"adapters/{FILES[name]}.safetensors") for name in names]
    return checkpoint, Denoiser.adapted(checkpoint.unet, checkpoint.preset, adapters)


def made(checkpoint: Checkpoint, denoiser: Denoiser, items: list[CaptionedClip], config: GenerateConfig) -> Any:
    """What `sample` wants of these clips."""
    autoencoder, text_encoder = checkpoint.autoencoder, checkpoint.text_encoder
    assert autoencoder is not None and text_encoder is not None
    pictures = torch.stack([item.pixels[:, 0] for item in items])
    given = autoencoder.encode(pictures)[:, :, None]
    captions, empty = [item.caption for item in items], [""] * len(items)
    conditions = [encode_conditions(text_encoder, texts, given, pictures) for texts in (captions, empty)]
    shape = (len(items), given.shape[1], checkpoint.preset.frames, *given.shape[-2:])
    return denoiser, *conditions, shape, config.sampling(checkpoint.preset)


def score(clips: Tensor, items: list[CaptionedClip], encoder: ImageEncoder) -> dict[str, float]:
    """What one variant's clips `b c t h w` are worth."""
    truth = torch.stack([item.pixels for item in items])
    followed = moves_followed(clips, items)
    moving = torch.tensor([item.motion != "still" for item in items])
    frames = psnr(clips.transpose(1, 2), truth.transpose(1, 2))
    features = encoder(rearrange(clips, "b c t h w -> (b t) c h w"))[:, 0]
    features = rearrange(features, "(b t) d -> b t d", b=len(clips))
    curves = isim_curve(features, encoder(truth[:, :, 0])[:, 0])
    return {
        "followed": round(sum(followed) / len(followed), 3),
        "first_frame_psnr": round(psnr(clips[:, :, 0], truth[:, :, 0]).mean().item(), 2),
        "psnr": round(frames[moving].mean().item(), 2),
        "isim": round(isim_average(curves).mean().item(), 4),
    }


def cost(checkpoint: Checkpoint, denoiser: Denoiser, items: list[CaptionedClip], config: GenerateConfig) -> Any:
    """Seconds, tensors and weights of one guided pass over one clip."""
    _, conditional, unconditional, shape, sampling = made(checkpoint, denoiser, items[:1], config)
    sigmas = denoiser.schedule.sigmas(sampling.steps, sampling.spacing)
    denoise = guided(denoiser, conditional, unconditional, None, sampling, sigmas)
    state = per_clip_noise(shape, [0], torch.device("cpu"))(-1) * sigmas[2]
    modules = (each.adapter if isinstance(each, ImageProjectionMethod) else each.module for each in denoiser.methods)
    parts = (denoiser.network, *modules)
    weights = sum(p.numel() * 4 for part in parts for p in part.parameters())
    return {
        "seconds": round(seconds(lambda: denoise(state, sigmas[2])), 3),
        "weights_mib": round(weights / 2**20, 1),
        "tensors_mib": round(peak_memory(lambda: denoise(state, sigmas[2])) / 2**20, 1),
    }


def table(report: dict[str, Any]) -> str:
    """The rows as Markdown, costs relative to the row "none"."""
    rows, lines = (
        report["rows"],
        ["| methods | followed | first frame | all frames | ISIM | time | weights | tensors |"],
    )
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        costs = [f"{row[cost] / rows['none'][cost]:.2f}" for cost in ("seconds", "weights_mib", "tensors_mib")]
        values = [f"{row['followed']:.2f}", *(str(row[key]) for key in ("first_frame_psnr", "psnr", "isim")), *costs]
        lines.append(f"| {' | '.join([name, *values])} |")
    return "\n".join(lines)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=28)
    parser.add_argument("--batch", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.output.read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(1)
    items = unseen_clips(options.clips)
    config = GenerateConfig(steps=options.steps)
    projection: Any = load_adapter(DEMO / "adapters/image_projection.safetensors").module
    report: dict[str, Any] = {"clips": options.clips, "steps": options.steps, "rows": {}}
    if options.output.exists():  # what an interrupted run has measured already
        report = json.loads(options.output.read_text(encoding="utf-8"))
        if (report["clips"], report["steps"]) != (options.clips, options.steps):
            parser.error(f"{options.output} holds rows of other clips or steps: delete it or name another file")
    for row, names in variants().items():
        if row in report["rows"]:
            continue
        checkpoint, denoiser = adapted(names)
        assert checkpoint.autoencoder is not None
        clips = []
        for start in range(0, options.clips, options.batch):
            inputs = made(checkpoint, denoiser, items[start : start + options.batch], config)
            seeds = list(range(start, start + inputs[3][0]))
            clips.append(checkpoint.autoencoder.decode_clip(sample(*inputs, seeds=seeds)).clamp(-1, 1))
        report["rows"][row] = score(torch.cat(clips), items, projection.encoder)
        report["rows"][row] |= cost(checkpoint, denoiser, items, config)
        print(row, report["rows"][row], flush=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
