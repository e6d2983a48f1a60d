"""Agreement of raters, and confidence intervals of their mean ratings.

Ratings are `r u`, raters by units, with NaN where a rater did not judge a unit.
"""

from typing import Literal

import torch
from torch import Tensor

from .checks import at_least
from .statistics import Interval, limits

Level = Literal["nominal", "ordinal", "interval"]


def krippendorff_alpha(ratings: Tensor, level: Level) -> float:
    """Krippendorff's alpha (Computing Krippendorff's Alpha-Reliability, 2011): 1 agreement, 0 chance, below 0 contrary.

    Units that fewer than two raters judged do not count.

    Args:
        ratings: `r u`, numbers or NaN.
        level: "nominal" for names, "ordinal" for ranks, "interval" for numbers whose differences mean something.

    Returns:
        NaN if everyone always said the same, where chance cannot be told from agreement.

    Raises:
        ValueError: no unit was judged by two raters.
    """
    ratings = ratings.double()
    ratings = ratings[:, (~ratings.isnan()).sum(0) > 1]
    at_least(ratings.shape[1], 1, "Agreement, in units that two raters judged,")
    values = ratings[~ratings.isnan()].unique()
    counts = (ratings[..., None] == values).double().sum(0)  # u v
    judged = counts.sum(1)
    # Every pair of judgements of a unit, weighted so that each judgement counts once.
    pairs = torch.einsum("uv,uw->uvw", counts, counts) - torch.diag_embed(counts)
    observed = (pairs / (judged - 1)[:, None, None]).sum(0)
    totals = observed.sum(0)
    expected = torch.outer(totals, totals) - torch.diag(totals)
    distances = _distances(values, totals, level)
    chance = (expected * distances).sum()
    if chance == 0:
        return float("nan")
    return float(1 - (totals.sum() - 1) * (observed * distances).sum() / chance)


def _distances(values: Tensor, totals: Tensor, level: Level) -> Tensor:
    """Squared distances between values, `v v`."""
    if level == "nominal":
        return (values[:, None] != values).double()
    if level == "ordinal":
        # The judgements between two ranks, counting half of each of the two.
        place = totals.cumsum(0) - totals / 2
        return (place[:, None] - place).square()
    return (values[:, None] - values).square()


def crossed_interval(ratings: Tensor, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of ratings `r u` with its interval over raters and units: both are drawn again (Owen 2007).

    With one rater it is an interval over units only, and says nothing of other raters.

    Raises ValueError if there is no rating.
    """
    known = ~ratings.isnan()
    at_least(int(known.sum()), 1, "A mean, in ratings,")
    values, generator = ratings.double().nan_to_num(), torch.Generator().manual_seed(seed)

    def weights(count: int) -> Tensor:
        drawn = torch.randint(count, (resamples, count), generator=generator)
        return torch.zeros(resamples, count, dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones_like(drawn).double()
        )

    raters, units = weights(len(values)), weights(values.shape[1])
    total = torch.einsum("sr,ru,su->s", raters, known.double(), units)
    means = torch.einsum("sr,ru,su->s", raters, values, units) / total
    low, high = limits(means[total > 0], confidence)
    return Interval(float(values.sum() / known.sum()), low, high, int(known.sum()))
