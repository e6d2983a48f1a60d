"""Clips of every sampling, and their scores, kept in one file each."""

import json
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from einops import repeat
from safetensors.torch import load_file, save_file
from torch import Tensor

from i2v_core.conditions import white
from i2v_core.data.moving_crops import MOTIONS, PHRASES, TEST_PHOTOGRAPHS, CaptionedClip, MovingCrops
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.initialization import Initialization
from i2v_core.evaluation.controls import ROWS, control_clips
from i2v_core.files import atomic_path
from i2v_core.generate import GenerateConfig, encode_conditions, null_conditions
from i2v_core.methods.look_back import begin_with
from i2v_core.sampling import SamplingConfig, sample
from i2v_core.weights import Checkpoint

from .claims import CLAIMS
from .judge import Judge, get_judge
from .networks import Proof
from .samplings import SAMPLINGS, Sampling
from .scores import score

BATCH = 35
# Sets that a claim compares; their features are kept.
NEEDS_FEATURES = {name for claim in CLAIMS if claim.measure == "toyFVD" for name in (claim.more, claim.less)}


def held_out_items(proof: Proof, few: bool) -> list[CaptionedClip]:
    """Clips of pictures that no training saw, every motion equally often."""
    schedule = proof.schedule
    data = MovingCrops(replace(schedule.data, seed=1, photographs=TEST_PHOTOGRAPHS))
    count = schedule.grid_clips if few else schedule.clips
    return [data.clip(i, MOTIONS[i % len(MOTIONS)]) for i in range(count)]


def judge_of(proof: Proof) -> Judge:
    """The proof's judge, trained where there is none yet."""
    schedule = proof.schedule
    return get_judge(schedule.data, schedule.judge_steps, proof.folder / "judge.safetensors", schedule.device)


def make_row(proof: Proof, name: str, seed: int) -> dict[str, Any]:
    """Scores of one sampling, from its file or made now; the clips lie beside them."""
    path = proof.results / f"seed{seed}" / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    sampling = SAMPLINGS[name]
    checkpoint, denoiser = proof.variant(sampling.variant, seed)
    started = time.monotonic()
    items = held_out_items(proof, sampling.few)
    clips = generate(checkpoint, denoiser, sampling, items, proof.schedule.sampling_steps, proof.schedule.device)
    if sampling.second_part:
        items = [_next_part(item, clip, i) for i, (item, clip) in enumerate(zip(items, clips, strict=True))]
        clips = generate(checkpoint, denoiser, sampling, items, proof.schedule.sampling_steps, proof.schedule.device)
    judge = judge_of(proof)
    scores = score(clips, items, judge)
    row = {
        "sampling": asdict(sampling),
        "schedule": proof.schedule.name,
        "seed": seed,
        "revision": revision(),
        "seconds": round(time.monotonic() - started, 1),
        # The true future of a second part is not known.
        "scores": {"followed": scores["followed"]} if sampling.second_part else scores,
    }
    keep_clips(proof.folder / f"seed{seed}" / f"{name}.clips.safetensors", clips)
    if name in NEEDS_FEATURES:
        keep_features(path, judge.clip_features(clips))
    write_json(path, row)
    return row


def make_controls(proof: Proof) -> dict[str, Any]:
    """Scores of the control rows, which say what a measure can tell apart; with the truth's features beside them."""
    path = proof.results / "controls.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    items, judge = held_out_items(proof, few=False), judge_of(proof)
    made = [
        control_clips(item.pixels, item.caption, items[(i + 1) % len(items)].caption, seed=str(i))
        for i, item in enumerate(items)
    ]
    scores = {}
    for name in ROWS:
        # A wrong caption leaves the clip as it is and asks for another motion.
        asked = [replace(item, motion=items[(i + 1) % len(items)].motion) for i, item in enumerate(items)]
        shown = torch.stack([controls[name].clip for controls in made]).to(proof.schedule.device)
        scores[name] = score(shown, asked if name == "wrong caption" else items, judge)
    keep_features(path, judge.clip_features(torch.stack([item.pixels for item in items]).to(proof.schedule.device)))
    write_json(path, {"scores": scores})
    return {"scores": scores}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a result, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def keep_clips(path: Path, clips: Tensor) -> None:
    """Write clips as bytes."""
    levels = ((clips.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    with atomic_path(path) as temporary:
        save_file({"clips": levels.cpu().contiguous()}, temporary)


def keep_features(result: Path, features: Tensor) -> None:
    """Write the judge's features `n d` beside a result."""
    result.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(result.with_suffix(".features.safetensors")) as temporary:
        save_file({"features": features.half().cpu().contiguous()}, temporary)


def kept_features(result: Path) -> Tensor:
    """The features `n d` beside a result."""
    return load_file(result.with_suffix(".features.safetensors"))["features"].float()


@torch.inference_mode()
def generate(
    checkpoint: Checkpoint,
    denoiser: Denoiser,
    sampling: Sampling,
    items: list[CaptionedClip],
    steps: int,
    device: str,
) -> Tensor:
    """Clips `b c t h w` in [-1, 1]; noise and pictures depend on the item's number alone."""
    denoiser = replace(denoiser, methods=begin_with(denoiser.methods, Initialization(sampling.initialization)))
    text, image = (None, None) if sampling.scales is None else sampling.scales
    config = GenerateConfig(steps=steps, text_scale=text, image_scale=image).sampling(checkpoint.preset)
    parts = [
        _generate(checkpoint, denoiser, sampling, items[i : i + BATCH], config, list(range(i, i + BATCH)), device)
        for i in range(0, len(items), BATCH)
    ]
    return torch.cat(parts)


def _generate(
    checkpoint: Checkpoint,
    denoiser: Denoiser,
    sampling: Sampling,
    items: list[CaptionedClip],
    config: SamplingConfig,
    seeds: list[int],
    device: str,
) -> Tensor:
    autoencoder, text_encoder = checkpoint.autoencoder, checkpoint.text_encoder
    assert autoencoder is not None and text_encoder is not None
    pictures = torch.stack([item.pixels[:, 0] for item in items]).to(device)
    if not sampling.image:
        pictures = white(pictures)
    given, empty = autoencoder.encode(pictures)[:, :, None], [""] * len(items)
    latents = sample(
        denoiser,
        encode_conditions(text_encoder, [item.caption if sampling.text else "" for item in items], given, pictures),
        encode_conditions(text_encoder, empty, given, pictures),
        (len(items), given.shape[1], checkpoint.preset.frames, *given.shape[-2:]),
        config,
        seeds=seeds[: len(items)],
        null=None if sampling.scales is None else null_conditions(autoencoder, text_encoder, empty, pictures),
    )
    return autoencoder.decode_clip(latents).clamp(-1, 1).float()


def _next_part(item: CaptionedClip, clip: Tensor, number: int) -> CaptionedClip:
    """What follows: the last frame of the clip is the picture, and the motion is another."""
    motion = MOTIONS[(number + 3) % len(MOTIONS)]
    still = repeat(clip[:, -1].cpu(), "c h w -> c t h w", t=item.pixels.shape[1])
    return CaptionedClip(still, still[:, 0], PHRASES[motion][number % len(PHRASES[motion])], motion=motion)


def revision() -> str:
    """The source's git revision, or "unknown" outside a clone."""
    root = Path(__file__).resolve().parents[2]
    answer = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "unknown"
