"""Everyone sees as much as everyone else, and no label has the better side."""

from collections import Counter

import pytest

from i2v_core.evaluation.study.design import QUESTIONS, Showing, StudyConfig, Trial, list_trials, plan

ITEMS = [f"clip{i}" for i in range(7)]


def spread(counts: Counter[object]) -> int:
    return max(counts.values()) - min(counts.values())


def test_pairs_are_the_first_label_against_every_other_one() -> None:
    assert list_trials("pairs", ["x"], ["a", "b", "c"]) == [Trial("x", ("a", "b")), Trial("x", ("a", "c"))]
    assert list_trials("scales", ["x"], ["a", "b"]) == [Trial("x", ("a",)), Trial("x", ("b",))]


@pytest.mark.parametrize("each", [None, 5])
def test_sides_and_numbers_are_balanced(each: int | None) -> None:
    trials = list_trials("pairs", ITEMS, ["a", "b", "c"])
    plans = plan(trials, StudyConfig("pairs", raters=6, trials=each))
    assert [len(shown) for shown in plans] == [each or len(trials)] * 6
    assert all(len({showing.trial for showing in shown}) == len(shown) for shown in plans), "nothing twice"
    assert spread(Counter(showing.trial for shown in plans for showing in shown)) <= 1
    for other in ("b", "c"):
        for shown in plans:
            sides = [showing.labels.index("a") for showing in shown if other in showing.labels]
            assert abs(2 * sum(sides) - len(sides)) <= 2, "for every rater"
    for trial in range(len(trials)):
        lefts = [showing.labels[0] for shown in plans for showing in shown if showing.trial == trial]
        assert abs(2 * lefts.count("a") - len(lefts)) <= 1, "for every trial"


def test_orders_differ_between_raters_and_come_from_the_seed() -> None:
    trials = list_trials("scales", ITEMS, ["a", "b"])
    plans = plan(trials, StudyConfig("scales", raters=4))
    assert len({tuple(shown) for shown in plans}) == 4
    assert plans == plan(trials, StudyConfig("scales", raters=4))
    assert plans != plan(trials, StudyConfig("scales", raters=4, seed=1))
    assert all(isinstance(showing, Showing) and len(showing.labels) == 1 for showing in plans[0])


def test_studies_that_ask_nothing_are_refused() -> None:
    assert StudyConfig("scales").asked == QUESTIONS["scales"]
    with pytest.raises(ValueError, match="one of pairs, scales, got 'ranks'"):
        StudyConfig("ranks")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one rater and one trial, got 0 and None"):
        StudyConfig("pairs", raters=0)
    with pytest.raises(ValueError, match="asked once"):
        StudyConfig("pairs", questions=("A", "A"))
    with pytest.raises(ValueError, match="two folders of results or more, got 1"):
        list_trials("pairs", ITEMS, ["a"])
    with pytest.raises(ValueError, match="no clips"):
        list_trials("scales", [], ["a"])
