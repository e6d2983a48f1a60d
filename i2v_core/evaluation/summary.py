"""From the numbers of the items to those of the rows: means with intervals, paired differences, distances of sets, and
whether each measure can tell the control rows apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..metrics.distribution import (
    FeatureStatistics,
    frechet_distance,
    frechet_distance_of_statistics,
    inception_score,
    kernel_distance,
)
from ..metrics.statistics import bootstrap_distance, bootstrap_interval, paired_difference, real_floor
from .items import Item
from .measures import CURVES, MEASURES
from .run import EvaluationConfig, Record, read_features

FEW = 256  # below it a Fréchet distance says more of the number of clips than of the clips
SPLITS = 10
WRONG = "wrong caption"

Distance = Callable[[Tensor, Tensor], float]
DISTANCES: Mapping[str, tuple[str, Distance]] = {
    "fvd": ("i3d", frechet_distance),
    "kvd": ("i3d", kernel_distance),
}


def summarize(config: EvaluationConfig, items: Sequence[Item], records: Sequence[Record]) -> dict[str, Any]:
    """The whole report as plain values; the first folder is what differences are taken to."""
    rows = list(dict.fromkeys(row for record in records for row in record["rows"]))
    baseline = next(iter(config.folders))
    measures = {name: _measure_rows(name, rows, baseline, records) for name in MEASURES if name not in CURVES}
    return {
        "items": len(records),
        "rows": rows,
        "baseline": baseline,
        "measures": {name: told for name, told in measures.items() if told["rows"]},
        "curves": {name: _curves(name, rows, records) for name in CURVES},
        "sets": _sets(config, list(items), rows, records),
        "errors": _errors(records),
        "settings": config.settings(),
        "networks": {kind: name for record in records for kind, name in record["networks"].items()},
    }


def _values(name: str, row: str, records: Sequence[Record]) -> dict[str, float]:
    found = ((record["name"], record["rows"].get(row, {}).get("values", {}).get(name)) for record in records)
    return {item: value for item, value in found if value is not None}


def _measure_rows(name: str, rows: Sequence[str], baseline: str, records: Sequence[Record]) -> dict[str, Any]:
    measure = MEASURES[name]
    values = {row: found for row in rows if (found := _values(name, row, records))}
    intervals = {row: asdict(bootstrap_interval(_tensor(found.values()))) for row, found in values.items()}
    differences = {
        row: told for row in values if row != baseline and (told := _difference(values, row, baseline)) is not None
    }
    orders = [
        {"higher": high, "lower": low, "verdict": _verdict(told)}
        for high, low in measure.orders
        if (told := _difference(values, high, low)) is not None
    ]
    told = {"label": measure.label, "note": measure.note, "digits": measure.digits}
    return told | {"rows": intervals, "differences": differences, "orders": orders}


def _difference(values: Mapping[str, Mapping[str, float]], row: str, other: str) -> dict[str, Any] | None:
    """Paired difference over the items that have both; None if none has."""
    common = sorted(values.get(row, {}).keys() & values.get(other, {}).keys())
    if not common:
        return None
    sides = (_tensor(values[side][item] for item in common) for side in (row, other))
    interval = paired_difference(*sides)
    return asdict(interval) | {"separable": interval.separable}


def _verdict(difference: Mapping[str, Any]) -> str:
    if not difference["separable"]:
        return "not separable"
    return "ordered" if difference["mean"] > 0 else "reversed"


def _curves(name: str, rows: Sequence[str], records: Sequence[Record]) -> dict[str, list[float]]:
    """Mean over the items of each row's curve, as far as their shortest reaches."""
    means = {}
    for row in rows:
        if row == WRONG:
            continue  # the truth's frames once more
        curves = [record["rows"].get(row, {}).get("values", {}).get(name) for record in records]
        curves = [curve for curve in curves if curve is not None]
        if curves:
            frames = min(map(len, curves))
            means[row] = _tensor(curve[:frames] for curve in curves).mean(0).tolist()
    return means


def _sets(
    config: EvaluationConfig, items: list[Item], rows: Sequence[str], records: Sequence[Record]
) -> dict[str, dict[str, Any]]:
    """Measures of whole rows: a value with what belongs to it, or the sentence why there is none."""
    told: dict[str, dict[str, Any]] = {name: {} for name in (*DISTANCES, "fid", "inception_score")}
    for row in rows:
        if row == WRONG:
            continue
        if row != "truth":
            for name, (kind, distance) in DISTANCES.items():
                _try(told[name], row, partial(_distance, config, items, row, kind, distance, records))
            _try(told["fid"], row, partial(_fid, config, items, row))
        _try(told["inception_score"], row, partial(_score, config, items, row))
    return told


def _try(told: dict[str, Any], row: str, measure: Callable[[], dict[str, Any]]) -> None:
    try:
        told[row] = measure()
    except ValueError as error:
        told[row] = {"error": str(error)}


def _features(config: EvaluationConfig, items: list[Item], row: str, kind: str) -> Tensor:
    found = read_features(config.output, items, row, kind)
    if not found:
        raise ValueError(f"There are no features of {kind} of both sides: see what was not measured.")
    return torch.cat(found)


def _distance(
    config: EvaluationConfig, items: list[Item], row: str, kind: str, distance: Distance, records: Sequence[Record]
) -> dict[str, Any]:
    lengths = {record["rows"][side]["shape"][1] for record in records for side in (row, "truth")
               if "shape" in record["rows"].get(side, {})}  # fmt: skip
    if len(lengths) > 1:
        raise ValueError(f"Clips of {sorted(lengths)} frames are not comparable: give --frames one number.")
    made, real = _features(config, items, row, kind), _features(config, items, "truth", kind)
    told = asdict(bootstrap_distance(distance, made, real))
    half = len(real) // 2
    if half >= 2:
        told |= {"floor": real_floor(distance, real, half), "floor_count": half}
        told |= {"at_floor_count": distance(made[:half], real[-half:])}
    if min(len(made), len(real)) < FEW:
        told["warning"] = f"{min(len(made), len(real))} clips: below {FEW} the number of clips decides the value."
    return told


def _fid(config: EvaluationConfig, items: list[Item], row: str) -> dict[str, Any]:
    """FID over all frames, and without the first, which image-to-video models get almost for free."""
    told: dict[str, Any] = {}
    for name, first in (("mean", 0), ("without_first_frame", 1)):
        sides = []
        for side in (row, "truth"):
            streamed = None
            for features in read_features(config.output, items, side, "inception"):
                if len(features) > first:
                    part = FeatureStatistics.of(features[first:])
                    streamed = part if streamed is None else streamed.merge(part)
            if streamed is None:
                raise ValueError("There are no features of inception of both sides: see what was not measured.")
            sides.append(streamed)
        told |= {name: frechet_distance_of_statistics(*sides), "frames": sides[0].count, "count": len(items)}
    return told


def _score(config: EvaluationConfig, items: list[Item], row: str) -> dict[str, Any]:
    probabilities = _features(config, items, row, "c3d")
    mean, deviation = inception_score(probabilities, splits=SPLITS)
    return {"mean": mean, "deviation": deviation, "count": len(probabilities), "splits": SPLITS}


def _errors(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each different sentence once, with the measures and how many clips it befell."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        for row, told in record["rows"].items():
            for measure, sentence in told["errors"].items():
                entry = found.setdefault(sentence, {"sentence": sentence, "measures": [], "clips": []})
                entry["measures"] += [measure] if measure not in entry["measures"] else []
                clip = f"{record['name']} ({row})"
                entry["clips"] += [clip] if clip not in entry["clips"] else []
    return list(found.values())


def _tensor(values: Any) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)
