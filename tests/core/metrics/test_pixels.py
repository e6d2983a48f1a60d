"""PSNR against its definition."""

import math

import torch

from i2v_core.metrics.pixels import psnr


def test_known_error_gives_known_decibels() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = a + torch.tensor([0.2, 0.02])[:, None, None, None]
    torch.testing.assert_close(psnr(a, b), torch.tensor([20.0, 40.0]))


def test_equal_pictures_are_infinitely_close() -> None:
    a = torch.rand(3, 4, 4)
    assert psnr(a, a).item() == math.inf
