"""Distances between distributions against scipy's matrix square root, eigenvalues, numpy and torchmetrics."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from i2v_core.metrics.distribution import (
    FeatureStatistics,
    frechet_distance,
    frechet_distance_of_statistics,
    inception_score,
    kernel_distance,
)


def draw(count: int, width: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    """Correlated features with a decaying spectrum."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(99)) / width**0.5
    return torch.randn(count, width, generator=generator) * 0.97 ** torch.arange(width) @ mixing + shift


def by_eigenvalues(a: torch.Tensor, b: torch.Tensor) -> float:
    """The textbook form in float64: the trace of the root is the sum of the roots of the product's eigenvalues."""
    a, b = a.double().numpy(), b.double().numpy()
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(s @ t).real, 0))
    # Zeros of a singular product come out as rounding noise, whose roots would count.
    roots[roots < 1e-6 * roots.max()] = 0
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s) + np.trace(t) - 2 * roots.sum())


@pytest.mark.parametrize("count", [8, 31, 64, 400])
def test_frechet_equals_the_eigenvalue_form_also_below_the_dimension(count: int) -> None:
    a, b = draw(count, 64, 0), draw(count + 3, 64, 1, shift=0.1)
    expected = by_eigenvalues(a, b)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    statistics = (FeatureStatistics.of(x) for x in (a, b))
    assert frechet_distance_of_statistics(*statistics) == pytest.approx(expected, rel=1e-6)


def test_frechet_equals_torchmetrics() -> None:
    a, b = draw(300, 48, 0), draw(200, 48, 1, shift=0.2)
    arguments = [part for x in (a, b) for part in (x.double().mean(0), x.double().T.cov())]
    assert frechet_distance(a, b) == pytest.approx(_compute_fid(*arguments).item(), rel=1e-6)


def test_equal_sets_are_zero_and_equal_gaussians_as_far_as_their_number_tells() -> None:
    a = draw(100, 32, 0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    distances = [frechet_distance(draw(n, 32, 1), draw(n, 32, 2)) for n in (128, 256, 512, 1024)]
    for few, many in pairwise(distances):
        assert 1.5 < few / many < 2.7, "the bias falls about as 1/n"


def test_a_shift_counts_by_its_square() -> None:
    a = draw(200, 16, 0)
    assert frechet_distance(a, a + 0.5) == pytest.approx(16 * 0.25, rel=1e-5)


def test_halves_merge_into_the_whole(tmp_path: Path) -> None:
    a = draw(101, 24, 0) + 7
    parts = [FeatureStatistics.of(part) for part in (a[:40], a[40:41], a[41:])]
    merged, whole = parts[2].merge(parts[0]).merge(parts[1]), FeatureStatistics.of(a)
    assert merged.count == whole.count == 101
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(merged.covariance, whole.covariance, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(whole.covariance.numpy(), np.cov(a.double().numpy(), rowvar=False), rtol=1e-9)
    merged.save(tmp_path / "statistics.safetensors", {"network": "drawn"})
    again = FeatureStatistics.load(tmp_path / "statistics.safetensors")
    assert again.count == 101
    torch.testing.assert_close(again.scatter, merged.scatter, rtol=0, atol=0)


def test_kernel_distance_equals_torchmetrics_and_has_no_bias() -> None:
    a, b = draw(40, 20, 0), draw(40, 20, 1, shift=0.3)
    assert kernel_distance(a, b) == pytest.approx(poly_mmd(a.double(), b.double()).item(), rel=1e-9)
    drawn = [kernel_distance(draw(32, 8, 2 * i), draw(32, 8, 2 * i + 1)) for i in range(200)]
    assert min(drawn) < 0 < max(drawn)
    assert abs(np.mean(drawn)) < 3 * np.std(drawn) / 200**0.5


def test_inception_score_written_out_and_in_its_limits() -> None:
    probabilities = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)).softmax(-1)
    rows = probabilities.double().numpy().copy()
    np.random.RandomState(42).shuffle(rows)
    scores = [
        np.exp(np.mean(np.sum(part * (np.log(part) - np.log(part.mean(0, keepdims=True))), axis=1)))
        for part in np.split(rows, 5)
    ]
    assert inception_score(probabilities, splits=5) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-6)
    assert inception_score(torch.eye(7).repeat(2, 1), splits=1) == pytest.approx((7, 0))
    assert inception_score(torch.full((20, 7), 1 / 7), splits=2) == pytest.approx((1, 0))


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        (torch.zeros(1, 4), torch.zeros(5, 4), "needs at least 2, got 1"),
        (torch.zeros(5, 4), torch.zeros(5, 3), "width 4 and 3 come from different networks"),
        (torch.full((5, 4), torch.nan), torch.zeros(5, 4), "hold 20 NaN or infinite values of 20"),
        (torch.zeros(5), torch.zeros(5, 4), r"Expected features `n d`"),
    ],
)
def test_bad_sets_are_refused_in_one_sentence(a: torch.Tensor, b: torch.Tensor, sentence: str) -> None:
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(ValueError, match=sentence):
            distance(a, b)


def test_too_few_clips_or_no_probabilities_are_refused_by_the_score() -> None:
    with pytest.raises(ValueError, match="with 10 splits, in clips, needs at least 10, got 4"):
        inception_score(torch.full((4, 2), 0.5))
    with pytest.raises(ValueError, match="rows that sum to 1"):
        inception_score(torch.ones(20, 3))


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="expected feature statistics"):
        FeatureStatistics.load(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="absent"):
        FeatureStatistics.load(tmp_path / "absent.safetensors")
