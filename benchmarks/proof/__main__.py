"""`python -m benchmarks.proof run | page`: run the experiments in restartable pieces, and write their page."""

import argparse
import logging
import sys
from pathlib import Path

from .claims import CLAIMS
from .figures import draw_clips, draw_differences
from .networks import Proof
from .page import Results, write_page
from .probes import reference_attention, retention_at_start
from .rows import make_controls, make_row, revision, write_json
from .samplings import SAMPLINGS
from .schedules import SCHEDULES

logger = logging.getLogger("benchmarks.proof")
# The claims that stand without a card come first.
ORDER = ("V5", "T1", "L3", "V1", "D1", "V2", "L4", "T3", "V4", "V3", "L1", "D2", "T2", "L2", "D3")


def run(arguments: argparse.Namespace) -> None:
    """Run experiments one after the other; what is finished is not run again, what was interrupted goes on."""
    schedule = SCHEDULES[arguments.schedule]
    results = arguments.results or arguments.folder / "results"
    proof = Proof(schedule, arguments.folder, results)
    proof.folder.mkdir(parents=True, exist_ok=True)
    make_controls(proof)
    for seed in schedule.seeds:
        for experiment in arguments.only or ORDER:
            run_experiment(proof, experiment, seed)


def run_experiment(proof: Proof, experiment: str, seed: int) -> None:
    """Make every row that the experiment's claims name."""
    logger.info("experiment %s, seed %d", experiment, seed)
    place = proof.results / f"seed{seed}"
    if experiment == "V5":
        write_json(place / "V5.json", {"scores": retention_at_start(proof, seed), "revision": revision()})
    elif experiment == "T3":
        scores, attention = reference_attention(proof, seed)
        write_json(place / "T3.json", {"scores": scores, "attention": attention, "revision": revision()})
    else:
        for name in rows_of(experiment):
            make_row(proof, name, seed)


def rows_of(experiment: str) -> list[str]:
    """The samplings that an experiment's claims compare, in the order of `SAMPLINGS`; for V2 the whole grid."""
    named = {name for claim in CLAIMS if claim.experiment == experiment for name in (claim.more, claim.less)}
    return [name for name in SAMPLINGS if name in named or (experiment == "V2" and name.startswith("grid_"))]


def page(arguments: argparse.Namespace) -> None:
    """Write the page and its figures from kept results, and the frames from clips where a run left them."""
    preface = Path(__file__).with_name("preface.md").read_text(encoding="utf-8")
    results, pictures = Results.read(arguments.results), arguments.output.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    draw_differences(results.verdicts(), pictures / "differences.png")
    if not draw_clips(arguments.folder, pictures / "frames.jpg"):
        logger.info("no clips in %s: the picture of the frames stays as it is", arguments.folder)
    text = write_page(results, SCHEDULES[arguments.schedule], preface)
    arguments.output.write_text(text, encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m benchmarks.proof", description=__doc__)
    commands = main.add_subparsers(required=True, metavar="command")
    sub = commands.add_parser("run", help=run.__doc__)
    sub.set_defaults(run=run)
    sub.add_argument("--schedule", choices=sorted(SCHEDULES), default="cpu")
    sub.add_argument("--folder", type=Path, default=Path("runs/proof"), help="weights and clips, to resume from")
    sub.add_argument("--results", type=Path, help="scores; default: results, in the folder")
    sub.add_argument("--only", nargs="+", choices=ORDER, help="experiments; default: all")
    sub = commands.add_parser("page", help=page.__doc__)
    sub.set_defaults(run=page)
    sub.add_argument("--schedule", choices=sorted(SCHEDULES), default="cpu")
    sub.add_argument("--results", type=Path, default=Path("docs/proof/cpu"))
    sub.add_argument("--folder", type=Path, default=Path("runs/proof"), help="weights and clips")
    sub.add_argument("--output", type=Path, default=Path("docs/proof.md"))
    return main


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    given = parser().parse_args()
    given.run(given)
