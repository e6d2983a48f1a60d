"""A user study in a real browser: answered, left and taken up again, saved, and read by the command."""

import json
import sys
from pathlib import Path

import pytest

from i2v_core.__main__ import main
from tests.core.evaluation.small_clips import write_clips

playwright = pytest.importorskip("playwright.sync_api")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def evaluate(monkeypatch: pytest.MonkeyPatch, *given: object) -> None:
    monkeypatch.setattr(sys, "argv", ["i2v_core", "evaluate", *map(str, given)])
    assert main() == 0


@pytest.mark.browser
def test_a_study_is_answered_left_and_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chromium: str
) -> None:
    clips, study = write_clips(tmp_path / "clips", count=2), tmp_path / "study"
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"clip0": "a </script><b>tag</b>", "clip1": "zoom in"}))
    given = (clips["good"], clips["bad"], "--images", clips["truth"], "--captions", captions)
    evaluate(monkeypatch, *given, "--study", "pairs", "--question", "Better", "--raters", 2, "--output", study)
    key = json.loads((study / "study_key.json").read_text())
    left_is_better = [key["clips"][shown["clips"][0]]["label"] for shown in key["plans"][1]]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.goto((study / "study.html").as_uri())
        page.get_by_label("Your number").fill("2")
        page.get_by_role("button", name="Begin").click()
        assert page.locator("video").count() == 2
        page.wait_for_function("[...document.querySelectorAll('video')].every((video) => video.currentTime > 0)")
        assert page.get_by_role("button", name="Next").is_disabled()
        texts = [page.inner_text("#caption")]
        page.get_by_label("Left is better").check()
        page.get_by_role("button", name="Next").click()
        assert page.inner_text("#place") == "2 of 2"
        page.goto((study / "study.html").as_uri() + "?rater=2")
        assert page.inner_text("#place") == "2 of 2", "what was answered is still there"
        texts.append(page.inner_text("#caption"))
        assert sorted(texts) == ["a </script><b>tag</b>", "zoom in"]
        page.get_by_label("Left is better").check()
        page.get_by_role("button", name="Next").click()
        assert page.inner_text("#left") == "All 2 are answered."
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save the answers").click()
        saved.value.save_as(tmp_path / saved.value.suggested_filename)
        browser.close()
    evaluate(monkeypatch, "--study-results", tmp_path / f"study-{key['study']}-rater-2.json", "--output", study)
    (row,) = json.loads((study / "study_results.json").read_text())["questions"]["Better"]
    assert row["count"] == 2
    assert row["mean"] == left_is_better.count("good") / 2
