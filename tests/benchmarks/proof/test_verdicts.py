"""Verdicts: the words follow from interval and least effect, and the intervals from the clips."""

import pytest
import torch

from benchmarks.proof.claims import CLAIMS, Claim
from benchmarks.proof.samplings import SAMPLINGS
from benchmarks.proof.scores import MEASURES
from benchmarks.proof.variants import VARIANTS
from benchmarks.proof.verdicts import distance_over_seeds, judge_all, judge_claim, paired_over_seeds
from i2v_core.metrics.statistics import Interval, paired_difference

PROBED = {"reference attention", "unchanged"}


def claim(effect: float, measure: str = "followed") -> Claim:
    return Claim("X", "", "", measure, "a", "b", effect)


@pytest.mark.parametrize(
    ("mean", "low", "high", "effect", "word"),
    [
        (0.3, 0.1, 0.5, 0.2, "confirmed"),
        (0.15, 0.1, 0.2, 0.2, "not separable"),  # no chance, but too small to matter
        (0.3, -0.1, 0.7, 0.2, "not separable"),
        (-0.3, -0.5, -0.1, 0.2, "reversed"),
        (-0.02, -0.04, 0.0, -0.05, "confirmed"),  # a little worse is accepted
        (-0.02, -0.08, 0.04, -0.05, "not separable"),
        (-0.2, -0.3, -0.1, -0.05, "reversed"),
    ],
)
def test_the_word_follows_from_interval_and_least_effect(
    mean: float, low: float, high: float, effect: float, word: str
) -> None:
    assert judge_claim(claim(effect), Interval(mean, low, high, 10)).word == word


def test_one_seed_gives_the_paired_interval_over_clips() -> None:
    a, b = torch.randn(2, 200, generator=torch.Generator().manual_seed(0))
    own, plain = paired_over_seeds(a[None], b[None]), paired_difference(a, b)
    assert own.mean == pytest.approx(plain.mean)
    assert (own.low, own.high) == pytest.approx((plain.low, plain.high), abs=0.03)


def test_seeds_that_disagree_widen_the_interval() -> None:
    a = torch.randn(1, 100, generator=torch.Generator().manual_seed(0)).expand(3, -1)
    alike = paired_over_seeds(a + 1, torch.zeros(3, 100))
    apart = paired_over_seeds(a + torch.tensor([[0.0], [1.0], [2.0]]), torch.zeros(3, 100))
    assert alike.mean == pytest.approx(apart.mean)
    assert apart.high - apart.low > 2 * (alike.high - alike.low)


def test_the_same_set_is_no_further_from_the_truth_and_a_shifted_one_is() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, made = torch.randn(2, 120, 4, generator=generator).double()
    same = distance_over_seeds(made[None], made[None], truth)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    shifted = distance_over_seeds(made[None] + 1, made[None], truth)
    assert shifted.low > 0 and shifted.mean == pytest.approx(4, rel=0.3)


def test_claims_without_rows_get_no_verdict() -> None:
    scores = {"a": {"followed": torch.ones(1, 6)}, "b": {"followed": torch.zeros(1, 4)}}
    found = judge_all((claim(0.5), Claim("Y", "", "", "followed", "a", "c", 0.5)), scores, lambda _: None, None)
    assert [(verdict.claim.experiment, verdict.word, verdict.difference.count) for verdict in found] == [
        ("X", "confirmed", 4)
    ]


def test_every_claim_names_rows_and_measures_that_exist() -> None:
    for each in CLAIMS:
        if each.measure not in PROBED:
            assert each.more in SAMPLINGS and each.less in SAMPLINGS, each
            assert each.measure in MEASURES or each.measure == "toyFVD", each
    assert {sampling.variant for sampling in SAMPLINGS.values()} == VARIANTS.keys()


def test_every_experiment_of_the_plan_has_a_claim() -> None:
    wanted = (
        {f"L{i}" for i in range(1, 5)} | {f"{a}{i}" for a in "TD" for i in range(1, 4)} | {f"V{i}" for i in range(1, 6)}
    )
    assert {each.experiment for each in CLAIMS} == wanted
