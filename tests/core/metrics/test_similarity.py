"""Similarity measures against numpy and torchmetrics on the same features, and in cases that can be worked out."""

import numpy as np
import pytest
import torch
from torchmetrics.functional import pairwise_cosine_similarity

from i2v_core.metrics.similarity import (
    clipsim,
    first_frame_similarity,
    frame_consistency,
    frame_consistency_curve,
    image_consistency,
    isim_average,
    isim_curve,
    isim_decay,
    isim_first,
    subject_consistency,
)


@pytest.fixture
def frames() -> torch.Tensor:
    # A common part, so that cosines are positive as CLIP's are.
    return torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0)) + 1


@pytest.fixture
def image(frames: torch.Tensor) -> torch.Tensor:
    return frames[:, 0] + 0.3 * torch.randn(2, 32, generator=torch.Generator().manual_seed(1))


def test_a_frozen_clip_keeps_all_similarity() -> None:
    image = torch.randn(16, generator=torch.Generator().manual_seed(0))
    frozen = image.expand(5, 16)
    curve = isim_curve(frozen, 3 * image)
    torch.testing.assert_close(curve, torch.ones(5))
    assert isim_first(curve).item() == pytest.approx(1)
    assert isim_average(curve).item() == pytest.approx(1)
    assert isim_decay(curve).item() == pytest.approx(0, abs=1e-7)
    assert isim_decay(curve, "slope").item() == pytest.approx(0, abs=1e-7)
    for pairs in ("all", "consecutive"):
        assert frame_consistency(frozen, pairs=pairs).item() == pytest.approx(100)
    assert subject_consistency(frozen).item() == pytest.approx(1)
    assert image_consistency(frozen, image).item() == pytest.approx(1)


def test_a_straight_curve_decays_alike_in_both_forms() -> None:
    curve = torch.linspace(1, 0.7, 16)
    assert isim_decay(curve).item() == pytest.approx(0.02)
    assert isim_decay(curve, "slope").item() == pytest.approx(0.02)


def test_the_slope_is_that_of_numpys_line() -> None:
    curve = torch.rand(9, generator=torch.Generator().manual_seed(0))
    assert isim_decay(curve, "slope").item() == pytest.approx(-np.polyfit(np.arange(9), curve.numpy(), 1)[0], rel=1e-4)


def test_curve_and_text_agree_with_torchmetrics(frames: torch.Tensor, image: torch.Tensor) -> None:
    for clip, given in zip(frames, image, strict=True):
        expected = pairwise_cosine_similarity(clip, given[None])[:, 0]
        torch.testing.assert_close(isim_curve(clip, given), expected)
        torch.testing.assert_close(clipsim(clip, given), 100 * expected.mean())
        torch.testing.assert_close(first_frame_similarity(clip, given), expected[0])


def test_the_curve_of_consistency_holds_every_number_of_frames(frames: torch.Tensor) -> None:
    expected = torch.stack([frame_consistency(frames, k) for k in range(2, 7)], dim=-1)
    torch.testing.assert_close(frame_consistency_curve(frames), expected)


@pytest.mark.parametrize("k", [2, 4, None])
def test_frame_consistency_averages_the_matrix_off_its_diagonal(frames: torch.Tensor, k: int | None) -> None:
    for clip in frames:
        matrix = pairwise_cosine_similarity(clip[:k], clip[:k], zero_diagonal=False)
        count = len(matrix)
        expected = 100 * (matrix.sum() - count) / (count * (count - 1))
        torch.testing.assert_close(frame_consistency(clip, k), expected)
        expected = 100 * matrix.diagonal(1).mean()
        torch.testing.assert_close(frame_consistency(clip, k, "consecutive"), expected)


def test_vbench_formulas_written_out(frames: torch.Tensor, image: torch.Tensor) -> None:
    frames = frames - 1  # some cosines are negative now and must count as zero
    for clip, given in zip(frames.numpy(), image.numpy(), strict=True):
        units = clip / np.linalg.norm(clip, axis=1, keepdims=True)
        to_image = np.maximum(units @ given / np.linalg.norm(given), 0)
        steps = [max(0.0, float(units[i] @ units[i - 1])) for i in range(1, len(units))]
        first = [max(0.0, float(units[i] @ units[0])) for i in range(1, len(units))]
        both = [(a + b) / 2 for a, b in zip(steps, first, strict=True)]
        tensor = torch.from_numpy(clip)
        assert subject_consistency(tensor).item() == pytest.approx(np.mean(both), rel=1e-5)
        expected = 0.4 * to_image.max() + 0.3 * np.mean(steps) + 0.3 * np.min(steps)
        assert image_consistency(tensor, torch.from_numpy(given)).item() == pytest.approx(expected, rel=1e-5)


def test_clips_may_be_measured_together(frames: torch.Tensor, image: torch.Tensor) -> None:
    torch.testing.assert_close(isim_curve(frames, image)[1], isim_curve(frames[1], image[1]))
    torch.testing.assert_close(frame_consistency(frames, 3)[1], frame_consistency(frames[1], 3))


def test_bad_features_are_refused_in_one_sentence(frames: torch.Tensor) -> None:
    broken = frames.clone()
    broken[0, 1, 2] = torch.nan
    with pytest.raises(ValueError, match="hold 1 NaN or infinite values"):
        frame_consistency(broken)
    with pytest.raises(ValueError, match="zero and has no direction"):
        isim_curve(frames, torch.zeros(2, 32))
    with pytest.raises(ValueError, match="F-Consistency_9, in frames, needs at least 9, got 6"):
        frame_consistency(frames, 9)
    with pytest.raises(ValueError, match="needs at least 2, got 1"):
        isim_decay(torch.ones(1))
