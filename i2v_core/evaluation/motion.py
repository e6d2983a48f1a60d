"""Does a model follow the motion that its prompt names? Measured on clips of photographs or figures it never saw."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from einops import repeat
from torch import Tensor

from ..data.figures import Figures
from ..data.moving_crops import TEST_PHOTOGRAPHS, CaptionedClip, MovingCrops, MovingCropsConfig
from ..denoiser import Denoiser
from ..generate import Animator, GenerateConfig, check_parts
from ..metrics.camera_motion import measure_camera_motion
from ..metrics.pixels import psnr
from ..sampling import sample
from ..weights import Checkpoint


@dataclass(frozen=True)
class MotionReport:
    """Scores of one model over all clips, beside what the true clips and a frozen first frame score.

    Attributes:
        accuracy: share of clips whose measured motion is the one asked for; chance is 1 in so many motions.
        truth_accuracy, frozen_accuracy: the same for the true clip and for its first frame repeated.
        confusion: `confusion[asked][measured]`, counts.
        psnr: mean PSNR in dB of every frame to the true future; `frozen_psnr`: of the first frame in place of the
            second, third and so on. Both over the moving clips: of a still one the copy is exact.
        autoencoder_psnr: of the encoded and decoded true frames, the ceiling.
    """

    clips: int
    accuracy: float
    truth_accuracy: float
    frozen_accuracy: float
    confusion: dict[str, dict[str, int]]
    psnr: list[float]
    frozen_psnr: list[float]
    autoencoder_psnr: float

    def asdict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate_motion(
    checkpoint: Checkpoint,
    *,
    clips: int = 200,
    batch: int = 10,
    config: GenerateConfig | None = None,
    denoiser: Denoiser | None = None,
    photographs: tuple[str, ...] = TEST_PHOTOGRAPHS,
    data: MovingCrops | Figures | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> MotionReport:
    """Animate held-out first frames, every motion equally often, and measure what came out.

    Args:
        denoiser: the checkpoint's network with its adapters; None takes the network alone.
        data: the clips; None takes moving crops of `photographs`.
        on_batch: called with the clips done and their number.

    Raises:
        ValueError: the checkpoint lacks a part that animating needs.
    """
    check_parts(checkpoint)
    preset, denoiser = checkpoint.preset, denoiser or Denoiser.of(checkpoint.unet, checkpoint.preset)
    crops = MovingCropsConfig(frames=preset.frames, size=preset.height, seed=1, photographs=photographs)
    data = data or MovingCrops(crops)
    motions = data.classes()["motion"]
    confusion = {asked: dict.fromkeys(motions, 0) for asked in motions}
    scores: dict[str, list[Any]] = {
        "psnr": [],
        "frozen_psnr": [],
        "autoencoder": [],
        "truth": [],
        "frozen": [],
    }
    for start in range(0, clips, batch):
        items = [data.clip(i, motions[i % len(motions)]) for i in range(start, min(start + batch, clips))]
        truth = torch.stack([item.pixels for item in items])
        seeds = list(range(start, start + len(items)))
        made, restored = _animate(checkpoint, denoiser, items, truth, config or GenerateConfig(), seeds)
        frozen = repeat(truth[:, :, 0], "b c h w -> b c t h w", t=truth.shape[2])
        for index, item, clip, true, still in zip(seeds, items, made, truth, frozen, strict=True):
            confusion[item.motion][measured_motion(data, index, clip)] += 1
            scores["truth"].append(measured_motion(data, index, true) == item.motion)
            scores["frozen"].append(measured_motion(data, index, still) == item.motion)
        moving = torch.tensor([item.motion != "still" for item in items])
        scores["psnr"].append(_frame_psnr(made, truth)[moving])
        scores["frozen_psnr"].append(_frame_psnr(frozen, truth)[moving, 1:])
        scores["autoencoder"].append(_frame_psnr(restored, truth))
        if on_batch is not None:
            on_batch(start + len(items), clips)
    return MotionReport(
        clips=clips,
        accuracy=sum(confusion[motion][motion] for motion in motions) / clips,
        truth_accuracy=sum(scores["truth"]) / clips,
        frozen_accuracy=sum(scores["frozen"]) / clips,
        confusion=confusion,
        psnr=_rounded(torch.cat(scores["psnr"]).mean(0)),
        frozen_psnr=_rounded(torch.cat(scores["frozen_psnr"]).mean(0)),
        autoencoder_psnr=round(torch.cat(scores["autoencoder"]).mean().item(), 2),
    )


def measured_motion(data: MovingCrops | Figures, index: int, clip: Tensor) -> str:
    """The motion that a clip `3 t h w`, made for clip number `index`, shows: by futures or, of a camera, by warps."""
    return data.nearest_motion(index, clip) if isinstance(data, Figures) else measure_camera_motion(clip).motion


@torch.inference_mode()
def _animate(
    checkpoint: Checkpoint,
    denoiser: Denoiser,
    items: list[CaptionedClip],
    truth: Tensor,
    config: GenerateConfig,
    seeds: list[int],
) -> tuple[Tensor, Tensor]:
    """Generated clips, and the true ones through the autoencoder alone."""
    animator = Animator.of(checkpoint, denoiser)
    latents, sampling = animator.autoencoder.encode_clip(truth), config.sampling(checkpoint.preset)
    captions = [item.caption for item in items]
    conditional, unconditional, null = animator.branches(
        sampling.guidance, captions, [""] * len(items), latents[:, :, :1], truth[:, :, 0], config.rate
    )
    made = sample(denoiser, conditional, unconditional, tuple(latents.shape), sampling, seeds=seeds, null=null)
    decode = animator.autoencoder.decode_clip
    return decode(made).clamp(-1, 1), decode(latents).clamp(-1, 1)


def _frame_psnr(a: Tensor, b: Tensor) -> Tensor:
    """PSNR of clips `b c t h w`, `b t`."""
    return psnr(a.transpose(1, 2), b.transpose(1, 2))


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 2) for value in values.tolist()]
