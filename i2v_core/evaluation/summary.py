"""From the numbers of the items to those of the rows: means with intervals, paired differences, distances of sets, and
whether each measure can tell the control rows apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial, reduce
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
MEAN_OF_CATEGORIES = "mean of the categories"

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
        "categories": _categories(config, items, rows, records),
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
            _try(told["fid"], row, partial(_fid, config, items, row, records))
        _try(told["inception_score"], row, partial(_score, config, items, row, records))
    return told


def _categories(
    config: EvaluationConfig, items: Sequence[Item], rows: Sequence[str], records: Sequence[Record]
) -> dict[str, dict[str, Any]]:
    """The means of each category's items, and last the mean of the categories, in which each counts alike."""
    groups: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        if item.category is not None:
            groups.setdefault(item.category, []).append(i)
    told = {name: _category([items[i] for i in places], [records[i] for i in places], config, rows)
            for name, places in sorted(groups.items())}  # fmt: skip
    return told | {MEAN_OF_CATEGORIES: _mean_of(list(told.values()))} if told else {}


def _category(
    items: list[Item], records: list[Record], config: EvaluationConfig, rows: Sequence[str]
) -> dict[str, Any]:
    measures = {
        name: {row: float(_tensor(found.values()).mean()) for row in rows if (found := _values(name, row, records))}
        for name in MEASURES if name not in CURVES
    }  # fmt: skip
    sets = _sets(config, items, rows, records)
    means = {
        name: {row: told["mean"] for row, told in by_row.items() if "mean" in told} for name, by_row in sets.items()
    }
    return {"items": len(items), "values": {name: by_row for name, by_row in (measures | means).items() if by_row}}


def _mean_of(categories: list[dict[str, Any]]) -> dict[str, Any]:
    """Of what every category has."""
    values: dict[str, dict[str, float]] = {}
    for name, by_row in categories[0]["values"].items():
        for row in by_row:
            found = [told["values"].get(name, {}).get(row) for told in categories]
            if None not in found:
                values.setdefault(name, {})[row] = float(_tensor(found).mean())
    return {"items": sum(told["items"] for told in categories), "values": values}


def _try(told: dict[str, Any], row: str, measure: Callable[[], dict[str, Any]]) -> None:
    try:
        told[row] = measure()
    except ValueError as error:
        told[row] = {"error": str(error)}


def _features(
    config: EvaluationConfig, items: list[Item], row: str, kind: str, records: Sequence[Record]
) -> list[Tensor]:
    """One tensor `n d` for each item that has them; raises ValueError with the reason if none has."""
    found = read_features(config.output, items, row, kind)
    if not found:
        reasons = (record["rows"].get(row, {}).get("errors", {}).get(kind) for record in records)
        reason = next(filter(None, reasons), "no clip could be read, or there is no ground truth")
        raise ValueError(f"There are no features of {kind} ({row}): {reason}")
    return found


def _distance(
    config: EvaluationConfig, items: list[Item], row: str, kind: str, distance: Distance, records: Sequence[Record]
) -> dict[str, Any]:
    lengths = {record["rows"][side]["shape"][1] for record in records for side in (row, "truth")
               if "shape" in record["rows"].get(side, {})}  # fmt: skip
    if len(lengths) > 1:
        raise ValueError(f"Clips of {sorted(lengths)} frames are not comparable: give --frames one number.")
    made, real = (torch.cat(_features(config, items, side, kind, records)) for side in (row, "truth"))
    told = asdict(bootstrap_distance(distance, made, real))
    half = len(real) // 2
    if half >= 2:
        told |= {"floor": real_floor(distance, real, half), "floor_count": half}
        told |= {"at_floor_count": distance(made[:half], real[-half:])}
    if min(len(made), len(real)) < FEW:
        told["warning"] = f"{min(len(made), len(real))} clips: below {FEW} the number of clips decides the value."
    return told


def _fid(config: EvaluationConfig, items: list[Item], row: str, records: Sequence[Record]) -> dict[str, Any]:
    """FID over all frames, and without the first, which image-to-video models get almost for free."""
    told: dict[str, Any] = {}
    for name, first in (("mean", 0), ("without_first_frame", 1)):
        sides = []
        for side in (row, "truth"):
            parts = [features[first:] for features in _features(config, items, side, "inception", records)]
            if not (parts := [part for part in parts if len(part)]):
                raise ValueError("FID without the first frame needs clips of 2 frames or more.")
            sides.append(reduce(FeatureStatistics.merge, map(FeatureStatistics.of, parts)))
        told |= {name: frechet_distance_of_statistics(*sides), "frames": sides[0].count, "count": len(items)}
    return told


def _score(config: EvaluationConfig, items: list[Item], row: str, records: Sequence[Record]) -> dict[str, Any]:
    probabilities = torch.cat(_features(config, items, row, "c3d", records))
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
