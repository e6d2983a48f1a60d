"""Damaged configurations, stories, protocols, tables and captions end in success or one sentence."""

from pathlib import Path

import pytest

from tests.fuzz.driver import fuzz, summary


def test_damaged_texts_end_well(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    report = fuzz("texts", 200 * pytestconfig.getoption("--fuzz"), tmp_path)
    print(summary(report))  # noqa: T201
    assert not report.failures, "\n".join(report.failures)
    assert report.succeeded > 0.02 * report.cases, "nearly everything was refused: the cases test nothing"
    assert report.sentences > 10
