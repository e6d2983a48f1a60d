"""Matching gives a picture the statistics of another; leading back starts from nothing and ends at all of it."""

import pytest
import torch

from i2v_core.video.match_colors import MAX_GAIN, channel_statistics, lead_colors_back, match_colors


@pytest.fixture
def clip() -> torch.Tensor:
    return 0.3 * torch.randn(3, 5, 16, 12, generator=torch.Generator().manual_seed(0))


TINTED = torch.tensor([0.2, -0.1, 0.0])[:, None, None] + torch.tensor([0.2, 0.4, 0.3])[:, None, None] * torch.randn(
    3, 20, 20, generator=torch.Generator().manual_seed(1)
)


def test_every_frame_gets_the_statistics_of_the_target(clip: torch.Tensor) -> None:
    matched = match_colors(clip, clip, TINTED)
    for given, wanted in zip(channel_statistics(matched), channel_statistics(TINTED), strict=True):
        torch.testing.assert_close(given, wanted[:, None].expand_as(given), rtol=1e-4, atol=1e-5)


def test_a_tinted_copy_is_restored(clip: torch.Tensor) -> None:
    gain, offset = (
        torch.tensor([0.8, 1.3, 1.0])[:, None, None, None],
        torch.tensor([0.1, -0.2, 0.05])[:, None, None, None],
    )
    tinted = gain * clip + offset
    torch.testing.assert_close(match_colors(tinted, tinted[:, :1], clip[:, 0]), clip, rtol=0, atol=1e-5)


def test_strength_zero_changes_nothing(clip: torch.Tensor) -> None:
    assert torch.equal(match_colors(clip, clip, TINTED, 0.0), clip)


def test_it_holds_in_any_linear_range(clip: torch.Tensor) -> None:
    unit = match_colors((clip + 1) / 2, (clip[:, :1] + 1) / 2, (TINTED + 1) / 2)
    torch.testing.assert_close(2 * unit - 1, match_colors(clip, clip[:, :1], TINTED), rtol=0, atol=1e-5)


def test_a_flat_frame_is_shifted_and_not_blown_up() -> None:
    noise = 1e-3 * torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    matched = match_colors(noise, noise, TINTED)
    mean, deviation = channel_statistics(matched)
    torch.testing.assert_close(mean[:, 0], channel_statistics(TINTED)[0])
    assert (deviation <= MAX_GAIN * 1e-3 * 1.3).all()
    assert torch.isfinite(match_colors(torch.zeros(3, 1, 8, 8), torch.zeros(3, 1, 8, 8), TINTED)).all()


def test_leading_back_keeps_the_first_frame_and_ends_on_the_reference(clip: torch.Tensor) -> None:
    clip, reference = clip.clamp(-1, 1), (0.9 * TINTED).clamp(-1, 1)
    led = lead_colors_back(clip, reference)
    torch.testing.assert_close(led[:, 0], clip[:, 0], rtol=0, atol=0)
    for given, wanted in zip(channel_statistics(led[:, -1]), channel_statistics(reference), strict=True):
        torch.testing.assert_close(given, wanted, rtol=0, atol=2e-2)  # up to what the clamp cuts
    changes = (led - clip).square().mean((0, 2, 3))
    assert (changes.diff() > 0).all()


def test_half_precision_stays_half_precision(clip: torch.Tensor) -> None:
    matched = match_colors(clip.half(), clip.half(), TINTED)
    assert matched.dtype == torch.float16
    torch.testing.assert_close(matched.float(), match_colors(clip, clip, TINTED), rtol=0, atol=5e-3)
