"""Drift is zero for the picture's own colors, and as many levels as every pixel is shifted."""

import pytest
import torch

from i2v_core.metrics.color_drift import color_drift


@pytest.fixture
def picture() -> torch.Tensor:
    return 0.5 * torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0)) - 0.25


def test_the_picture_has_not_drifted_whatever_its_layout(picture: torch.Tensor) -> None:
    clip = torch.stack([picture, picture.flip(-1), picture.transpose(1, 2)], dim=1)
    torch.testing.assert_close(color_drift(clip, picture), torch.zeros(3), rtol=0, atol=1e-4)


def test_a_shift_counts_its_levels(picture: torch.Tensor) -> None:
    shifted = picture + 10 / 127.5
    torch.testing.assert_close(color_drift(shifted[:, None], picture), torch.tensor([10.0]), rtol=1e-4, atol=1e-4)


def test_a_tint_of_one_channel_counts_a_third_of_its_square(picture: torch.Tensor) -> None:
    tinted = picture + torch.tensor([9 / 127.5, 0, 0])[:, None, None]
    torch.testing.assert_close(color_drift(tinted[:, None], picture), torch.tensor([9 / 3**0.5]), rtol=1e-4, atol=1e-4)


def test_contrast_counts_too(picture: torch.Tensor) -> None:
    doubled = picture.mean((1, 2), keepdim=True) + 2 * (picture - picture.mean((1, 2), keepdim=True))
    deviation = picture.flatten(1).std(-1, correction=0).square().mean().sqrt() * 127.5
    torch.testing.assert_close(color_drift(doubled[:, None], picture)[0], deviation, rtol=1e-4, atol=1e-4)
