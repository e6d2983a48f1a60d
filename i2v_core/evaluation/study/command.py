"""User studies on the command line: `evaluate --study` and `evaluate --study-results`."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from ...files import atomic_path
from ..items import find_items
from .design import QUESTIONS, StudyConfig
from .page import write_study
from .results import study_text, summarize_study

RESULTS = "study_results.json"


def add_study_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of a study; folders, captions, images and the seed are those of the evaluation."""
    sub.add_argument("--study", choices=tuple(QUESTIONS), help="write a page for raters into --output: pairs, the "
                     "first folder against each other one, or scales of five levels")  # fmt: skip
    sub.add_argument("--raters", type=int, default=8, help="of the study")
    sub.add_argument("--trials", type=int, help="that each rater of the study sees; default: all")
    sub.add_argument("--question", action="append", default=[], help="of the study, in place of the papers'; may be "
                     "given several times")  # fmt: skip
    sub.add_argument("--study-results", nargs="+", metavar="FILE", help="what raters saved: means with intervals and "
                     "agreement; --output is the study's folder")  # fmt: skip


def make_study(arguments: argparse.Namespace, folders: Mapping[str, Path]) -> str:
    """Write the page and its key; returns the page's path. Raises as `find_items` and `write_study`."""
    given = {name: getattr(arguments, name) for name in ("references", "images", "captions")}
    items = find_items(folders, **{name: Path(path) for name, path in given.items() if path})
    config = StudyConfig(
        arguments.study, arguments.raters, arguments.trials, tuple(arguments.question), arguments.seed
    )  # fmt: skip
    return str(write_study(items, list(folders), config, Path(arguments.output)))


def read_study(arguments: argparse.Namespace) -> str:
    """Write the results as JSON and return them as text, with the file's path last. Raises as `summarize_study`."""
    folder = Path(arguments.output)
    summary = summarize_study(folder, [Path(path) for path in arguments.study_results])
    with atomic_path(folder / RESULTS) as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return f"{study_text(summary)}\n{folder / RESULTS}"
