"""The page of the proof: tables and figures, made anew from the kept results."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from i2v_core.evaluation.controls import ROWS

from .claims import CLAIMS, Claim
from .rows import kept_features
from .samplings import GRID, SAMPLINGS
from .schedules import Schedule
from .scores import TOY
from .verdicts import Verdict, judge_all

SHOWN = ("followed", "first frame", "PSNR 2-", "PSNR last", "ISIM avg", "F-Consistency 4", "motion", "jerk")


@dataclass(frozen=True)
class Results:
    """Everything kept of a schedule's runs: scores by row and measure, `seeds clips` each."""

    folder: Path
    scores: Mapping[str, Mapping[str, Tensor]]
    controls: Mapping[str, Mapping[str, Tensor]]
    attention: list[list[float]] = field(default_factory=list)  # by time and frame
    notes: str = ""  # what whoever ran it has to say
    seeds: tuple[int, ...] = (0,)
    revisions: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """Read what there is; a row counts once every seed has it."""
        rows: dict[str, dict[int, dict[str, list[float]]]] = {}
        revisions: set[str] = set()
        attention: list[list[float]] = []
        for path in sorted(folder.glob("seed*/*.json")):
            kept = json.loads(path.read_text(encoding="utf-8"))
            seed = int(path.parent.name.removeprefix("seed"))
            revisions.add(kept.get("revision", "unknown"))
            attention = kept.get("attention", attention)
            named = {path.stem: kept["scores"]} if "sampling" in kept else kept["scores"]
            for name, measures in named.items():
                rows.setdefault(name, {})[seed] = measures
        seeds = tuple(sorted({seed for by_seed in rows.values() for seed in by_seed}))
        scores = {
            name: {m: torch.tensor([by_seed[seed][m] for seed in seeds]) for m in by_seed[seeds[0]]}
            for name, by_seed in rows.items()
            if len(by_seed) == len(seeds)
        }
        told = json.loads((folder / "controls.json").read_text(encoding="utf-8"))["scores"]
        controls = {name: {m: torch.tensor([v]) for m, v in measures.items()} for name, measures in told.items()}
        told_by_hand = folder / "notes.md"
        notes = told_by_hand.read_text(encoding="utf-8") if told_by_hand.exists() else ""
        return cls(folder, scores, controls, attention, notes, seeds, tuple(sorted(revisions)))

    def features(self, row: str) -> Tensor | None:
        """The judge's features of a row, `seeds n d`."""
        if row not in self.scores:
            return None
        return torch.stack([kept_features(self.folder / f"seed{seed}" / f"{row}.json") for seed in self.seeds])

    def verdicts(self) -> list[Verdict]:
        """Of every claim whose rows are there."""
        return judge_all(CLAIMS, self.scores, self.features, kept_features(self.folder / "controls.json"))


def write_page(results: Results, schedule: Schedule, preface: str) -> str:
    """The page as Markdown."""
    verdicts = results.verdicts()
    counts = {word: sum(v.word == word for v in verdicts) for word in ("confirmed", "not separable", "reversed")}
    missing = [claim for claim in CLAIMS if claim not in {verdict.claim for verdict in verdicts}]
    parts = [
        preface.strip(),
        *([results.notes.strip()] if results.notes else []),
        "## Verdicts",
        f"{counts['confirmed']} confirmed, {counts['not separable']} not separable, {counts['reversed']} reversed; "
        f"{len(missing)} not run.",
        verdict_table(verdicts),
        "![every difference with its interval](proof/differences.png)",
        *(["Not run: " + "; ".join(sorted({claim.experiment for claim in missing})) + "."] if missing else []),
        "## Rows",
        row_table(results),
        "![the same two clips in every row](proof/frames.jpg)",
        "## Control rows",
        "A measure may support a claim only where it tells these apart as it should.",
        table(("row", *SHOWN), [(row, *means(results.controls[row])) for row in ROWS]),
        *grid_tables(results),
        *attention_table(results, schedule),
        f"Schedule `{schedule.name}`, seeds {', '.join(map(str, results.seeds))}; source at "
        f"{', '.join(results.revisions)}. Measures of the judge ({', '.join(TOY)}) hold at this size only.",
    ]
    return "\n\n".join(parts) + "\n"


def verdict_table(verdicts: list[Verdict]) -> str:
    """One line for each claim."""
    lines = [
        (
            v.claim.experiment, v.claim.source, v.claim.text, name_of(v.claim),
            f"{v.difference.mean:+.3g} [{v.difference.low:+.3g}, {v.difference.high:+.3g}]", f"{v.claim.effect:g}",
            f"**{v.word}**",
        )
        for v in verdicts
    ]  # fmt: skip
    return table(("", "source", "claim", "measure: more - less", "difference [95 %]", "least", "verdict"), lines)


def name_of(claim: Claim) -> str:
    """What a claim compares."""
    return f"{'toy ' if claim.measure in TOY[:-1] else ''}{claim.measure}: `{claim.more}` - `{claim.less}`"


def row_table(results: Results) -> str:
    """Means of the rows outside the grid."""
    rows = [name for name in SAMPLINGS if name in results.scores and not name.startswith("grid_")]
    return table(("row", *SHOWN), [(f"`{name}`", *means(results.scores[name])) for name in rows])


def means(measures: Mapping[str, Tensor]) -> list[str]:
    """The shown measures' means over seeds and clips."""
    return [f"{measures[name].mean():.3g}" if name in measures else "" for name in SHOWN]


def grid_tables(results: Results) -> list[str]:
    """V2: what text and image scale do, one table for each measure."""
    if not all(f"grid_{text}_{image}" in results.scores for text in GRID for image in GRID):
        return []
    parts = ["## Text and image scale"]
    for measure in ("followed", "first frame", "contrast", "brightness"):
        lines = [
            (f"s_t {text}", *(f"{results.scores[f'grid_{text}_{image}'][measure].mean():.3g}" for image in GRID))
            for text in GRID
        ]
        parts += [f"{measure}:", table(("", *(f"s_i {image}" for image in GRID)), lines)]
    return parts


def attention_table(results: Results, schedule: Schedule) -> list[str]:
    """T3: the share of the fusion's attention that falls on the reference."""
    from .probes import TIMES

    if not results.attention:
        return []
    lines = [(f"t {time}", *(f"{v:.3f}" for v in row)) for time, row in zip(TIMES, results.attention, strict=True)]
    heads = ("", *(f"frame {i + 1}" for i in range(schedule.data.frames)))
    return ["## Where the temporal noise fusion looks", "Share of its attention on the reference.", table(heads, lines)]


def table(heads: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, ("---",) * len(heads), *lines))
