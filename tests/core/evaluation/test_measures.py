"""On the demo's held-out data every measure orders the control rows as it says, or its page says that it cannot."""

from functools import cache
from pathlib import Path

import pytest
import torch

import dev
from i2v_core.data.moving_crops import MOTIONS
from i2v_core.evaluation.controls import control_clips
from i2v_core.evaluation.measures import MEASURES, FeatureEncoders, Sample, asked_motion, measure_clip
from i2v_core.metrics.distribution import frechet_distance, kernel_distance
from i2v_core.metrics.features.clip import load_clip
from i2v_core.metrics.features.flow import weightless_flow
from i2v_core.metrics.statistics import paired_difference, real_floor
from tests.core.evaluation.small_clips import moving_crops
from tests.core.metrics.features.small_clip import open_clip_file

COUNT = 14
ABSENT = FeatureEncoders("no CLIP here", "no CLIP here", "no flow here")
# CLIP's weights are not shipped: with seeded ones pictures are told apart, but words mean nothing.
NEEDS_TRAINED_WEIGHTS = {"clipsim"}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> FeatureEncoders:
    path = open_clip_file(tmp_path_factory.mktemp("clip") / "seeded.pt", openai=True)
    clip = load_clip(path)
    return FeatureEncoders(clip.encode_frames, clip.encode_text, weightless_flow().estimate)


@pytest.fixture(scope="module")
def rows(encoders: FeatureEncoders) -> dict[str, list[Sample]]:
    """Samples of the control rows by name."""
    samples: dict[str, list[Sample]] = {}
    for i in range(COUNT):
        crop, other = (moving_crops().clip(i + step, MOTIONS[(i + step) % len(MOTIONS)]) for step in (0, 1))
        for row, control in control_clips(crop.pixels, crop.caption, other.caption, seed=str(i)).items():
            sample = Sample(control.clip, encoders, reference=crop.pixels, caption=control.caption)
            samples.setdefault(row, []).append(sample)
    return samples


@pytest.fixture(scope="module")
def scores(rows: dict[str, list[Sample]]) -> object:
    return cache(lambda name, row: torch.tensor([MEASURES[name](sample) for sample in rows[row]]))


@pytest.mark.parametrize("name", [name for name, measure in MEASURES.items() if measure.orders])
def test_control_rows_are_ordered_on_the_demo_data(name: str, scores: object) -> None:
    if name in NEEDS_TRAINED_WEIGHTS:
        page = (dev.ROOT / "web/docs/I2VMetrics.md").read_text(encoding="utf-8")
        assert "CLIPSIM, FVD, KVD, FID and the video Inception Score" in page
        assert "cannot be ordered on the demo data" in page
        return
    for higher, lower in MEASURES[name].orders:
        difference = paired_difference(scores(name, higher), scores(name, lower))
        assert difference.separable, f"{higher} over {lower}: {difference}"
        assert difference.mean > 0, f"{higher} over {lower}: {difference}"


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_distances_of_sets_put_the_controls_above_the_floor(distance: object, rows: dict[str, list[Sample]]) -> None:
    """On toy features, seeded spatio-temporal convolutions; I3D's weights are not shipped."""
    kernel = torch.randn(4, 3, 4, 9, 9, generator=torch.Generator().manual_seed(0))

    def features(clips: list[torch.Tensor]) -> torch.Tensor:
        # Of changes, which unlike content do not differ much from one real clip to the next.
        changes = torch.stack(clips).diff(dim=2)
        return torch.nn.functional.conv3d(changes, kernel, stride=(1, 5, 5)).abs().mean((2, 3, 4)).log1p()

    real = features([moving_crops().clip(100 + i, MOTIONS[i % 7]).pixels for i in range(2 * COUNT)])
    floor = real_floor(distance, real, COUNT)
    for row in ("frozen", "shuffled", "noise"):
        made = features([sample.clip for sample in rows[row]])
        assert distance(made, real[:COUNT]) > max(floor, 0), row


def test_a_missing_network_leaves_the_other_measures(rows: dict[str, list[Sample]]) -> None:
    clip = rows["truth"][0].clip
    values, errors = measure_clip(Sample(clip, ABSENT, reference=clip))
    assert errors["isim_average"] == errors["f_consistency_4"] == "no CLIP here"
    assert errors["flow_amount"] == "no flow here"
    assert errors["clipsim"] == "no CLIP here"
    assert "needs a caption" in errors["motion_follow"]
    assert values["psnr"] == 100
    assert values["motion_amount"] > 0


def test_bad_clips_are_told_in_one_sentence_for_each_measure(rows: dict[str, list[Sample]]) -> None:
    clip = rows["truth"][0].clip
    _, errors = measure_clip(Sample(clip, ABSENT, reference=clip[:, :6]))
    assert "clip and its ground truth must have one shape, got (3, 8, 64, 64) and (3, 6, 64, 64)" in errors["psnr"]
    _, errors = measure_clip(Sample(clip, ABSENT, image=clip[:, 0, :40]))
    assert "first frame and the given image must have one shape" in errors["image_ssim"]
    _, errors = measure_clip(Sample(clip.clone().fill_(torch.nan), ABSENT, image=clip[:, 0]))
    assert "NaN" in errors["motion_amount"]
    assert "NaN" in errors["image_psnr"]
    values, errors = measure_clip(Sample(clip[:, :1], ABSENT))
    assert "needs at least 2, got 1" in errors["motion_amount"]
    assert "needs the given image" in errors["image_ssim"]
    assert values == {}


@pytest.mark.parametrize(
    ("caption", "motion"),
    [("a still life, the camera pans left", "left"), ("Zoom in", "in"), ("distilled water", None), ("", None)],
)
def test_the_last_move_named_is_the_one_asked_for(caption: str, motion: str | None) -> None:
    assert asked_motion(caption) == motion


def test_the_encoder_runs_once_for_all_measures(tmp_path: Path) -> None:
    calls = []

    def frames(clip: torch.Tensor) -> torch.Tensor:
        calls.append(clip.shape[1])
        return clip.mean((-1, -2)).T + 2

    clip = moving_crops().clip(0).pixels
    measure_clip(Sample(clip, FeatureEncoders(frames, "no text", "no flow"), reference=clip))
    assert sorted(calls) == [1, 1, 8]
