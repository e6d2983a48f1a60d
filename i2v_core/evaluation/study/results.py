"""From the files of the raters to means with intervals and agreement."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...metrics.agreement import Level, crossed_interval, krippendorff_alpha
from ...text_files import LARGE, read_json
from .design import LEVELS
from .page import KEY

Answers = dict[int, dict[int, dict[str, Any]]]  # rater, trial, question


def read_answers(files: Sequence[Path], key: Mapping[str, Any]) -> Answers:
    """Answers by rater, trial and question.

    Raises ValueError naming the file: of another study, of a rater who is there already, or not as the page writes it.
    """
    answers: Answers = {}
    for path in files:
        told = read_json(path, limit=LARGE)
        if not isinstance(told, dict) or told.get("study") != key["study"]:
            raise ValueError(f"'{path}' holds no answers to this study ({key['study']}): see {KEY} of its folder.")
        rater = told.get("rater")
        if not isinstance(rater, int) or not 1 <= rater <= len(key["plans"]):
            raise ValueError(f"'{path}' is of rater {rater!r}, expected 1 to {len(key['plans'])}.")
        if rater in answers:
            raise ValueError(f"'{path}' is the second file of rater {rater}: keep one of them.")
        try:
            answers[rater] = {_trial(given, key, rater): _checked(given, key, rater) for given in told["answers"]}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"'{path}' is not as the page wrote it ({error}): ask rater {rater} again.") from error
    return answers


def _trial(given: Mapping[str, Any], key: Mapping[str, Any], rater: int) -> int:
    shown = {shown["trial"]: shown["clips"] for shown in key["plans"][rater - 1]}
    if shown.get(given["trial"]) != given["shown"]:
        raise ValueError(f"trial {given['trial']!r} was not shown like this")
    return int(given["trial"])


def _checked(given: Mapping[str, Any], key: Mapping[str, Any], rater: int) -> dict[str, Any]:
    allowed = given["shown"] if key["kind"] == "pairs" else list(range(1, len(LEVELS) + 1))
    for question, value in given["answers"].items():
        if question not in key["questions"] or value not in allowed or isinstance(value, bool):
            raise ValueError(f"trial {given['trial']} answers {question!r} with {value!r}")
    return dict(given["answers"])


def summarize_study(folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Means with intervals over raters and clips, and Krippendorff's alpha, for every question.

    Of pairs: how often the first label was preferred to each other one. Of scales: the mean level of each label, and
    the difference of each to the first where one rater judged both clips of an item.

    Args:
        folder: where the study was written.

    Raises:
        FileNotFoundError: no study there. ValueError: as `read_answers`.
    """
    if not (folder / KEY).is_file():
        raise FileNotFoundError(f"There is no '{folder / KEY}': give --output the folder that --study wrote.")
    key = read_json(folder / KEY, limit=LARGE)
    answers = read_answers(files, key)
    asked = sum(len(key["plans"][rater - 1]) * len(key["questions"]) for rater in answers)
    given = sum(len(told) for trials in answers.values() for told in trials.values())
    summary = _pairs if key["kind"] == "pairs" else _scales
    return {
        "study": key["study"], "kind": key["kind"], "raters": sorted(answers), "asked": asked, "answered": given,
        "questions": {question: summary(key, answers, question) for question in key["questions"]},
    }  # fmt: skip


def _table(key: Mapping[str, Any], answers: Answers, question: str) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """By the labels of a trial and the item: what each rater said, `r`; NaN where nothing."""
    table: dict[tuple[str, ...], dict[str, Tensor]] = {}
    for place, rater in enumerate(sorted(answers)):
        for shown in key["plans"][rater - 1]:
            value = answers[rater].get(shown["trial"], {}).get(question)
            clips = sorted(
                (key["clips"][clip] for clip in shown["clips"]), key=lambda c: key["labels"].index(c["label"])
            )
            if key["kind"] == "pairs" and value is not None:
                value = key["clips"][value]["label"] == clips[0]["label"]
            row = table.setdefault(tuple(clip["label"] for clip in clips), {})
            row.setdefault(clips[0]["item"], torch.full((len(answers),), math.nan))
            row[clips[0]["item"]][place] = math.nan if value is None else float(value)
    return table


def _pairs(key: Mapping[str, Any], answers: Answers, question: str) -> list[dict[str, Any]]:
    told = []
    for (first, other), items in sorted(_table(key, answers, question).items()):
        ratings = torch.stack(list(items.values()), dim=1)
        told.append({"label": first, "against": other} | _interval(ratings) | _agreement(ratings, "nominal"))
    return told


def _scales(key: Mapping[str, Any], answers: Answers, question: str) -> list[dict[str, Any]]:
    table = {labels[0]: items for labels, items in _table(key, answers, question).items()}
    told = []
    for label in key["labels"]:
        items = table.get(label, {})
        ratings = torch.stack(list(items.values()), dim=1) if items else torch.full((1, 1), math.nan)
        told.append({"label": label} | _interval(ratings) | _agreement(ratings, "ordinal"))
        both = sorted(items.keys() & table.get(key["labels"][0], {}).keys())
        if label != key["labels"][0] and both:
            difference = torch.stack([items[item] - table[key["labels"][0]][item] for item in both], dim=1)
            told[-1]["difference"] = _interval(difference)
    everything = [ratings for items in table.values() for ratings in items.values()]
    return [*told, {"label": "all"} | _agreement(torch.stack(everything, dim=1), "ordinal")] if everything else told


def _interval(ratings: Tensor) -> dict[str, Any]:
    return {"count": 0} if ratings.isnan().all() else asdict(crossed_interval(ratings))


def _agreement(ratings: Tensor, level: Level) -> dict[str, Any]:
    if not ((~ratings.isnan()).sum(0) > 1).any():
        return {"alpha": None}
    alpha = krippendorff_alpha(ratings, level)
    return {"alpha": None if math.isnan(alpha) else alpha}


def study_text(summary: Mapping[str, Any]) -> str:
    """The numbers as lines for people."""
    lines = [
        f"study {summary['study']}: {len(summary['raters'])} raters, {summary['answered']} of {summary['asked']} "
        "answers; intervals are 95 % over raters and clips; alpha is Krippendorff's, 1 agreement, 0 chance"
    ]
    for question, rows in summary["questions"].items():
        lines.append(question)
        for row in rows:
            name = f"{row['label']} preferred to {row['against']}" if "against" in row else row["label"]
            told = [_numbers(row, 100 if "against" in row else 1)] if row.get("count") else []
            if "difference" in row and row["difference"]["count"]:
                told.append(f"difference to the first {_numbers(row['difference'], 1)}")
            told.append("alpha cannot be told" if row["alpha"] is None else f"alpha {row['alpha']:.2f}")
            lines.append(f"  {name}: {', '.join(told)}")
    return "\n".join(lines)


def _numbers(row: Mapping[str, Any], scale: int) -> str:
    mean, low, high = (row[name] * scale for name in ("mean", "low", "high"))
    unit, digits = (" %", 1) if scale == 100 else ("", 2)
    return f"{mean:.{digits}f}{unit} [{low:.{digits}f}, {high:.{digits}f}], {row['count']} answers"
