"""What a clip scores: exact comparisons with the true future and the given picture, and the judge's similarities."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from i2v_core.data.moving_crops import CaptionedClip
from i2v_core.metrics import drift, motion, similarity
from i2v_core.metrics.camera_motion import measure_camera_motion
from i2v_core.metrics.pixels import psnr

from .judge import Judge

MOST_PSNR = 60.0  # what equal pictures count, so that means stay finite


@dataclass(frozen=True)
class Scored:
    """Clips `b c t h w` beside the truth, with frame features `b t d` of the judge and of the pictures `b d`."""

    clips: Tensor
    truth: Tensor
    features: Tensor
    picture_features: Tensor
    motions: tuple[str, ...]


def _followed(scored: Scored) -> Tensor:
    found = [measure_camera_motion(clip).motion for clip in scored.clips]
    return torch.tensor([a == b for a, b in zip(found, scored.motions, strict=True)]).float()


def _psnr(first: int | None, last: int | None) -> Callable[[Scored], Tensor]:
    def measure(scored: Scored) -> Tensor:
        clips, truth = (x.transpose(1, 2)[:, first:last] for x in (scored.clips, scored.truth))
        return psnr(clips, truth).clamp(max=MOST_PSNR).mean(1)

    return measure


def _drift(of: Callable[[Tensor], Tensor]) -> Callable[[Scored], Tensor]:
    """How far it lies above the picture's, over the frames."""
    return lambda scored: drift.drift_curve(of, scored.clips, scored.truth[:, :, 0]).mean(1)


def _jump(scored: Scored) -> Tensor:
    """The first step in proportion to the later ones, as the judge sees them."""
    steps = 1 - similarity.cosine(scored.features[:, 1:], scored.features[:, :-1])
    return steps[:, 0] / steps[:, 1:].mean(1).clamp(min=1e-3)


MEASURES: Mapping[str, Callable[[Scored], Tensor]] = {
    "followed": _followed,
    "first frame": _psnr(0, 1),
    "PSNR 2": _psnr(1, 2),
    "PSNR -4": _psnr(0, 4),
    "PSNR 2-": _psnr(1, None),
    "PSNR last": _psnr(-1, None),
    "ISIM avg": lambda s: similarity.isim_average(similarity.isim_curve(s.features, s.picture_features)),
    "ISIM decay": lambda s: similarity.isim_decay(similarity.isim_curve(s.features, s.picture_features)),
    "F-Consistency 4": lambda s: similarity.frame_consistency(s.features, 4),
    "F-Consistency": lambda s: similarity.frame_consistency(s.features),
    "motion": lambda s: motion.motion_amount(s.clips),
    "jerk": lambda s: motion.jerk(s.clips) / motion.jerk(s.truth).clamp(min=1e-3),
    "jump": _jump,
    "contrast": _drift(drift.contrast),
    "brightness": _drift(drift.brightness),
}
# Of the judge, at this size only: the names of the page say so.
TOY = ("ISIM avg", "ISIM decay", "F-Consistency 4", "F-Consistency", "jump", "toyFVD")


def score(clips: Tensor, items: list[CaptionedClip], judge: Judge) -> dict[str, list[float]]:
    """Every measure of clips `b c t h w` in [-1, 1], one value for each of the items."""
    truth = torch.stack([item.pixels for item in items])
    scored = Scored(
        clips=clips,
        truth=truth,
        features=judge.frame_features(clips),
        picture_features=judge.frame_features(truth[:, :, :1])[:, 0],
        motions=tuple(item.motion for item in items),
    )
    return {name: [round(value, 5) for value in measure(scored).tolist()] for name, measure in MEASURES.items()}
