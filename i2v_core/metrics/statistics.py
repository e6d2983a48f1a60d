"""Confidence intervals, paired differences, and the score of two halves of real data."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import at_least, finite

Distance = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class Interval:
    """A mean over `count` clips and the limits between which it would fall again."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def separable(self) -> bool:
        """Zero lies outside the interval, which of a difference means: not chance."""
        return self.low > 0 or self.high < 0


def bootstrap_interval(values: Tensor, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of values `n` with its percentile bootstrap interval over clips.

    Raises ValueError for no values or NaN.
    """
    values = finite(values, "The values").double()
    at_least(len(values), 1, "A mean, in clips,")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(values), (resamples, len(values)), generator=generator)
    low, high = limits(values[drawn].mean(-1), confidence)
    return Interval(float(values.mean()), low, high, len(values))


def paired_difference(
    a: Tensor, b: Tensor, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean of a - b over the same clips `n`, with its interval.

    Raises ValueError if the two do not pair, for no values, or NaN.
    """
    if a.shape != b.shape:
        raise ValueError(f"A paired difference needs the same clips on both sides, got {len(a)} and {len(b)}.")
    return bootstrap_interval(a.double() - b.double(), confidence=confidence, resamples=resamples, seed=seed)


def bootstrap_distance(
    distance: Distance, a: Tensor, b: Tensor, *, confidence: float = 0.95, resamples: int = 30, seed: int = 0
) -> Interval:
    """A distance between features `n d` and `m d` with its interval over clips.

    A percentile bootstrap, moved so that its mean lies at the estimate: repeated rows make every resampled distance too
    large, the unbiased one as well.
    """
    generator = torch.Generator().manual_seed(seed)
    value = distance(a, b)
    drawn = [distance(*(x[torch.randint(len(x), (len(x),), generator=generator)] for x in (a, b)))
             for _ in range(resamples)]  # fmt: skip
    resampled = torch.tensor(drawn, dtype=torch.float64)
    low, high = limits(resampled + (value - resampled.mean()), confidence)
    return Interval(value, low, high, min(len(a), len(b)))


def real_floor(distance: Distance, real: Tensor, count: int, *, seed: int = 0) -> float:
    """Distance between two disjoint draws of `count` real samples out of `n d`: what a perfect model would score.

    Raises ValueError for fewer than twice as many samples.
    """
    at_least(len(real), 2 * count, f"The real-against-real floor at {count} clips, in real clips,")
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
    return distance(real[order[:count]], real[order[count : 2 * count]])


def limits(values: Tensor, confidence: float) -> tuple[float, float]:
    """The values `n` between which so large a share of them lies, in the middle."""
    tail = (1 - confidence) / 2
    low, high = torch.quantile(values, torch.tensor([tail, 1 - tail], dtype=values.dtype)).tolist()
    return low, high
