"""From folders to a page and from answers to numbers, through the command line."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from i2v_core.__main__ import main
from i2v_core.evaluation.study.page import EMBED_ONE
from tests.core.evaluation.small_clips import write_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_clips(tmp_path_factory.mktemp("clips"))


def run(monkeypatch: pytest.MonkeyPatch, *given: object) -> int:
    monkeypatch.setattr(sys, "argv", ["i2v_core", "evaluate", *map(str, given)])
    return main()


def answer(folder: Path, rater: int, choose: Any) -> Path:
    """The file of a rater; `choose` gets label and item of every shown clip and the question."""
    key = json.loads((folder / "study_key.json").read_text())
    given = []
    for shown in key["plans"][rater - 1]:
        known = [(key["clips"][clip]["label"], key["clips"][clip]["item"]) for clip in shown["clips"]]
        chosen = {question: choose(known, question) for question in key["questions"]}
        if key["kind"] == "pairs":
            chosen = {question: shown["clips"][place] for question, place in chosen.items()}
        given.append({"trial": shown["trial"], "shown": shown["clips"], "answers": chosen})
    path = folder / f"rater{rater}.json"
    path.write_text(json.dumps({"study": key["study"], "rater": rater, "answers": given}))
    return path


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "study_results.json").read_text())


def test_pairs_become_preferences(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study"
    given = (clips["good"], clips["bad"], "--study", "pairs", "--raters", 3, "--output", folder, "--images",
             clips["truth"], "--captions", clips["truth"].parent / "captions.json")  # fmt: skip
    assert run(monkeypatch, *given) == 0
    assert capsys.readouterr().out.strip() == str(folder / "study.html")
    page = (folder / "study.html").read_text()
    assert '"good"' not in page and str(clips["good"]) not in page, "raters cannot read who made a clip"
    assert "data:video/mp4" in page and "data:image/jpeg" in page

    def quality_only(known: list[tuple[str, str]], question: str) -> int:
        better = "good" if question == "Visual quality" else "bad"
        return [label for label, _ in known].index(better)

    files = [answer(folder, rater, quality_only) for rater in (1, 2, 3)]
    assert run(monkeypatch, "--study-results", *files, "--output", folder) == 0
    assert "good preferred to bad: 100.0 % [100.0, 100.0], 9 answers" in capsys.readouterr().out
    told = results(folder)
    assert told["asked"] == told["answered"] == 27
    assert told["questions"]["Motion fidelity"][0]["mean"] == 0
    assert told["questions"]["Visual quality"][0]["mean"] == 1


def test_scales_become_means_differences_and_agreement(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study"
    given = ("--study", "scales", "--question", "Quality", "--raters", 2, "--output", folder)
    assert run(monkeypatch, clips["good"], clips["bad"], *given) == 0

    def levels(known: list[tuple[str, str]], _: str) -> int:
        label, item = known[0]
        return (4 if label == "good" else 1) + (item == "clip1")

    files = [answer(folder, rater, levels) for rater in (1, 2)]
    assert run(monkeypatch, "--study-results", *files, "--output", folder) == 0
    good, bad, together = results(folder)["questions"]["Quality"]
    assert good["mean"] == pytest.approx(13 / 3)
    assert bad["difference"]["mean"] == pytest.approx(-3)
    assert bad["difference"]["high"] < 0
    assert good["alpha"] == pytest.approx(1)
    assert together["alpha"] == pytest.approx(1)
    assert "difference to the first -3.00 [-3.00, -3.00]" in capsys.readouterr().out


def test_answers_that_are_not_the_pages_are_refused(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study"
    assert run(monkeypatch, clips["good"], "--study", "scales", "--raters", 2, "--output", folder) == 0
    right = answer(folder, 1, lambda *_: 3)
    told, wrong = json.loads(right.read_text()), folder / "wrong.json"
    shown = told["answers"][0]
    for change, sentence in (
        ({"study": "other"}, "holds no answers to this study"),
        ({"rater": 3}, "is of rater 3, expected 1 to 2"),
        ({"answers": [shown | {"answers": {"Video quality": 6}}]}, "answers 'Video quality' with 6"),
        ({"answers": [shown | {"shown": ["0"]}]}, "was not shown like this"),
        ({"answers": [3]}, "is not as the page wrote it"),
    ):
        wrong.write_text(json.dumps(told | change))
        assert run(monkeypatch, "--study-results", wrong, "--output", folder) == 1
        assert sentence in capsys.readouterr().err
    assert run(monkeypatch, "--study-results", right, right, "--output", folder) == 1
    assert "is the second file of rater 1" in capsys.readouterr().err
    assert run(monkeypatch, "--study-results", right, "--output", tmp_path) == 1
    assert "give --output the folder that --study wrote" in capsys.readouterr().err


def test_large_clips_lie_beside_the_page_without_their_names(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "large"
    large.mkdir()
    (large / "clip0.mp4").write_bytes((clips["good"] / "clip0.mp4").read_bytes() + bytes(EMBED_ONE))
    assert run(monkeypatch, large, "--study", "scales", "--output", tmp_path / "study") == 0
    page, (copy,) = (tmp_path / "study/study.html").read_text(), (tmp_path / "study/study_clips").iterdir()
    assert f"study_clips/{copy.name}" in page
    assert "large" not in page
