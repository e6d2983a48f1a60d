"""Measures of whole sets from the items' files: distances of the core, floors, warnings, refusals in a sentence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from i2v_core.evaluation.items import Item
from i2v_core.evaluation.run import EvaluationConfig
from i2v_core.evaluation.summary import summarize
from i2v_core.metrics.distribution import frechet_distance, inception_score, kernel_distance


def written(output: Path, count: int, frames: tuple[int, ...] = (4,)) -> tuple[EvaluationConfig, list[Item], Any, Any]:
    """Items with random features of a result and the truth; every network's, at a width of 6."""
    (output / "items").mkdir()
    generator = torch.Generator().manual_seed(0)
    features, records, items = {}, [], []
    for i in range(count):
        t, name = frames[i % len(frames)], f"clip{i}"
        for row, shift in (("made", 0.3), ("truth", 0.0)):
            features[row, "i3d", i] = torch.randn(1, 6, generator=generator) + shift
            features[row, "c3d", i] = torch.randn(1, 6, generator=generator).softmax(-1)
            features[row, "inception", i] = torch.randn(t, 6, generator=generator) + shift
        own = {f"{row}/{kind}": tensor for (row, kind, j), tensor in features.items() if j == i}
        save_file(own, output / "items" / f"{name}.safetensors")
        rows = {row: {"values": {"jerk": 0.1 * i}, "errors": {}, "shape": [3, t, 8, 8]} for row in ("made", "truth")}
        records.append({"name": name, "caption": None, "rows": rows, "networks": {}})
        items.append(Item(name, {}))
    return EvaluationConfig({"made": output}, output), items, records, features


def stacked(features: Any, row: str, kind: str, first: int = 0) -> torch.Tensor:
    return torch.cat([tensor[first:] for (r, k, _), tensor in features.items() if (r, k) == (row, kind)])


def test_distances_are_those_of_all_clips_together(tmp_path: Path) -> None:
    config, items, records, features = written(tmp_path, 24)
    sets = summarize(config, items, records)["sets"]
    made, true = (stacked(features, row, "i3d") for row in ("made", "truth"))
    fvd, kvd, fid = (sets[name]["made"] for name in ("fvd", "kvd", "fid"))
    assert fvd["mean"] == pytest.approx(frechet_distance(made, true))
    assert kvd["mean"] == pytest.approx(kernel_distance(made, true))
    assert fvd["low"] < fvd["mean"] < fvd["high"]
    assert fvd["floor_count"] == 12
    assert fvd["floor"] > 0
    assert fvd["warning"].startswith("24 clips: below 256")
    for name, first in (("mean", 0), ("without_first_frame", 1)):
        sides = (stacked(features, row, "inception", first) for row in ("made", "truth"))
        assert fid[name] == pytest.approx(frechet_distance(*sides), rel=1e-6)
    expected = inception_score(stacked(features, "made", "c3d"))
    assert sets["inception_score"]["made"]["mean"] == pytest.approx(expected[0])
    assert "truth" not in sets["fvd"], "a set has no distance to itself"


def test_categories_count_alike_in_their_mean(tmp_path: Path) -> None:
    """As TRIP's averages over the four classes of DTDB."""
    config, items, records, features = written(tmp_path, 8)
    items = [replace(item, category="fire" if i < 2 else "cloud") for i, item in enumerate(items)]
    told = summarize(config, items, records)["categories"]
    assert list(told) == ["cloud", "fire", "mean of the categories"]
    assert [told[name]["items"] for name in told] == [6, 2, 8]
    jerks = {name: told[name]["values"]["jerk"]["made"] for name in told}
    assert jerks == pytest.approx({"fire": 0.05, "cloud": 0.45, "mean of the categories": 0.25})
    made, true = (
        torch.cat([features[row, "i3d", i] for i in range(2, 8)]) for row in ("made", "truth")
    )  # fmt: skip
    distances = [told[name]["values"]["fvd"]["made"] for name in told]
    assert distances[0] == pytest.approx(frechet_distance(made, true))
    assert distances[2] == pytest.approx(sum(distances[:2]) / 2)
    assert "inception_score" not in told["fire"]["values"], "two clips are too few for ten splits"
    assert summarize(config, [replace(item, category=None) for item in items], records)["categories"] == {}


def test_clips_of_different_lengths_have_no_common_distance(tmp_path: Path) -> None:
    sets = summarize(*written(tmp_path, 4, (4, 5))[:3])["sets"]
    assert "Clips of [4, 5] frames are not comparable" in sets["fvd"]["made"]["error"]
    assert sets["fid"]["made"]["mean"] > 0, "frames are"


def test_too_few_clips_are_refused_with_their_number(tmp_path: Path) -> None:
    told = summarize(*written(tmp_path, 1)[:3])
    assert "needs at least 2, got 1" in told["sets"]["fvd"]["made"]["error"]
    assert "with 10 splits, in clips, needs at least 10, got 1" in told["sets"]["inception_score"]["made"]["error"]
    assert told["measures"]["jerk"]["rows"]["made"]["count"] == 1, "the others are reported"


def test_nan_features_are_one_sentence(tmp_path: Path) -> None:
    config, items, records, features = written(tmp_path, 4)
    save_file({"made/i3d": torch.full((1, 6), torch.nan)}, tmp_path / "items" / "clip0.safetensors")
    sets = summarize(config, items, records)["sets"]
    assert "hold 6 NaN or infinite values" in sets["kvd"]["made"]["error"]
    assert features and sets["fid"]["made"]["mean"] > 0
