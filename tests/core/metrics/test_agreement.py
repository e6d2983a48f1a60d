"""Agreement against published examples, intervals against the ordinary bootstrap where both apply."""

import math

import pytest
import torch

from i2v_core.metrics.agreement import crossed_interval, krippendorff_alpha
from i2v_core.metrics.statistics import bootstrap_interval

NAN = math.nan
# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), sections C and D: four observers, twelve units.
OBSERVERS = torch.tensor(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_the_published_one(level: str, alpha: float) -> None:
    assert krippendorff_alpha(OBSERVERS, level) == pytest.approx(alpha, abs=5e-4)


def test_alpha_of_two_observers_and_two_values_is_the_published_one() -> None:
    """Section A of the same paper: ten units, alpha 0.095."""
    ratings = torch.tensor([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]])
    assert krippendorff_alpha(ratings, "nominal") == pytest.approx(0.095, abs=5e-4)


def test_limits_of_alpha() -> None:
    same = torch.tensor([1.0, 2, 3, 1]).expand(3, 4)
    assert krippendorff_alpha(same, "ordinal") == pytest.approx(1)
    assert krippendorff_alpha(torch.tensor([[0.0, 1] * 20, [1, 0] * 20]), "nominal") < -0.9
    chance = torch.randint(2, (6, 400), generator=torch.Generator().manual_seed(0))
    assert krippendorff_alpha(chance, "nominal") == pytest.approx(0, abs=0.05)
    assert math.isnan(krippendorff_alpha(torch.ones(2, 5), "nominal"))
    with pytest.raises(ValueError, match="that two raters judged, needs at least 1, got 0"):
        krippendorff_alpha(torch.tensor([[1.0, NAN], [NAN, 2]]), "nominal")


def test_the_interval_widens_with_what_raters_differ_in() -> None:
    generator = torch.Generator().manual_seed(0)
    units = torch.randn(200, generator=generator)
    alone = crossed_interval(units[None])
    plain = bootstrap_interval(units)
    assert alone.mean == pytest.approx(plain.mean)
    assert alone.high - alone.low == pytest.approx(plain.high - plain.low, rel=0.1)
    strict = units + torch.tensor([-2.0, -1, 0, 1, 2])[:, None]
    assert crossed_interval(strict).high - crossed_interval(strict).low > 5 * (plain.high - plain.low)
    holes = strict.masked_fill(torch.rand(5, 200, generator=generator) < 0.5, NAN)
    assert crossed_interval(holes).count == int((~holes.isnan()).sum())
    assert crossed_interval(holes).mean == pytest.approx(float(holes.nanmean()), abs=1e-5)
    with pytest.raises(ValueError, match="in ratings, needs at least 1, got 0"):
        crossed_interval(torch.full((2, 2), NAN))
