"""From scores to verdicts: paired differences over clips and seeds with intervals, against what was claimed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from i2v_core.metrics.distribution import frechet_distance
from i2v_core.metrics.statistics import Interval, limits

from .claims import Claim

Word = Literal["confirmed", "not separable", "reversed"]
RESAMPLES = 2000
SET_RESAMPLES = 60


@dataclass(frozen=True)
class Verdict:
    """What came of a claim: by how much `more` exceeds `less`, and in one word."""

    claim: Claim
    difference: Interval
    word: Word


def judge_claim(claim: Claim, difference: Interval) -> Verdict:
    """The word for a difference: confirmed where it is no chance and large enough, reversed where it is the opposite.

    Of an effect below zero (so much worse is still accepted) the interval must lie above it, or below it.
    """
    bar = min(claim.effect, 0.0)
    if difference.low > bar and difference.mean >= claim.effect:
        return Verdict(claim, difference, "confirmed")
    return Verdict(claim, difference, "reversed" if difference.high < bar else "not separable")


def paired_over_seeds(more: Tensor, less: Tensor, seed: int = 0) -> Interval:
    """Mean of `more - less`, `seeds clips` each, with its 95 % bootstrap interval over seeds and clips.

    Clips are drawn alike for all seeds, because they are the same clips. Of one seed the interval is over clips alone.
    """
    difference = (more - less).double()
    seeds, clips = difference.shape
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(seeds, (RESAMPLES, seeds), generator=generator)
    picked = torch.randint(clips, (RESAMPLES, clips), generator=generator)
    means = torch.stack([difference[s][:, c].mean() for s, c in zip(drawn, picked, strict=True)])
    low, high = limits(means, 0.95)
    return Interval(float(difference.mean()), low, high, clips)


def distance_over_seeds(more: Tensor, less: Tensor, truth: Tensor, seed: int = 0) -> Interval:
    """By how much the Fréchet distance to `truth` of `more` exceeds that of `less`, features `seeds n d` and `n d`.

    The bootstrap draws the same clips on all sides; it is moved so that its mean lies at the estimate, because repeated
    rows make every resampled distance too large.
    """

    def difference(pick: Tensor) -> float:
        pairs = zip(more, less, strict=True)
        return sum(
            frechet_distance(a[pick], truth[pick]) - frechet_distance(b[pick], truth[pick]) for a, b in pairs
        ) / len(more)

    count = len(truth)
    generator = torch.Generator().manual_seed(seed)
    value = difference(torch.arange(count))
    drawn = [difference(torch.randint(count, (count,), generator=generator)) for _ in range(SET_RESAMPLES)]
    resampled = torch.tensor(drawn, dtype=torch.float64)
    low, high = limits(resampled + (value - resampled.mean()), 0.95)
    return Interval(value, low, high, count)


def judge_all(
    claims: tuple[Claim, ...],
    scores: Mapping[str, Mapping[str, Tensor]],
    features: Callable[[str], Tensor | None],
    truth: Tensor | None,
) -> list[Verdict]:
    """Verdicts of the claims whose rows are there.

    Args:
        scores: by row and measure, `seeds clips` each; rows of fewer clips hold the first ones.
        features: of the judge for a row, `seeds n d`; None where they were not kept.
        truth: the judge's features of the true clips, `n d`.
    """
    found = []
    for claim in claims:
        if claim.measure == "toyFVD":
            more, less = features(claim.more), features(claim.less)
            if more is not None and less is not None and truth is not None:
                found.append(judge_claim(claim, distance_over_seeds(more, less, truth[: more.shape[1]])))
            continue
        if claim.more not in scores or claim.less not in scores:
            continue
        a, b = scores[claim.more][claim.measure], scores[claim.less][claim.measure]
        common, seeds = min(a.shape[1], b.shape[1]), min(len(a), len(b))
        found.append(judge_claim(claim, paired_over_seeds(a[:seeds, :common], b[:seeds, :common])))
    return found
