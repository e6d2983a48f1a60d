"""Intervals that hold what they promise, and floors of real data."""

import pytest
import torch

from i2v_core.metrics.distribution import frechet_distance, kernel_distance
from i2v_core.metrics.statistics import bootstrap_distance, bootstrap_interval, paired_difference, real_floor


def test_intervals_cover_the_true_mean_about_as_often_as_said() -> None:
    samples = torch.randn(200, 40, generator=torch.Generator().manual_seed(0)) + 3
    covered = [interval.low < 3 < interval.high for interval in map(bootstrap_interval, samples)]
    assert 0.88 < sum(covered) / 200 < 0.99


def test_an_interval_is_the_normal_one_for_many_clips() -> None:
    values = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    interval = bootstrap_interval(values)
    half = 1.96 * values.std().item() / 2000**0.5
    assert interval.high - interval.mean == pytest.approx(half, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.1)


def test_pairing_removes_what_the_clips_have_in_common() -> None:
    generator = torch.Generator().manual_seed(0)
    common = 10 * torch.randn(100, generator=generator)
    a, b = (common + shift + 0.1 * torch.randn(100, generator=generator) for shift in (0.2, 0.0))
    assert paired_difference(a, b).separable
    assert not bootstrap_interval(a).separable or not bootstrap_interval(a - a.mean()).separable
    assert not paired_difference(a - 0.2, b).separable
    with pytest.raises(ValueError, match="got 100 and 99"):
        paired_difference(a, b[1:])


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_a_model_as_good_as_reality_scores_the_floor(distance: object) -> None:
    real, made = (torch.randn(400, 16, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    floor = real_floor(distance, real, 200)
    interval = bootstrap_distance(distance, made[:200], real[:200])
    assert interval.low < floor < interval.high
    worse = bootstrap_distance(distance, made[:200] + 0.5, real[:200])
    assert worse.low > floor
    with pytest.raises(ValueError, match="at 201 clips, in real clips, needs at least 402, got 400"):
        real_floor(distance, real, 201)
