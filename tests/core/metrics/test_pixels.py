"""PSNR against its definition."""

import math

import pytest
import torch

from i2v_core.metrics.pixels import psnr, ssim


def test_known_error_gives_known_decibels() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = a + torch.tensor([0.2, 0.02])[:, None, None, None]
    torch.testing.assert_close(psnr(a, b), torch.tensor([20.0, 40.0]))


def test_equal_pictures_are_infinitely_close() -> None:
    a = torch.rand(3, 4, 4)
    assert psnr(a, a).item() == math.inf


@pytest.mark.parametrize("size", [(11, 11), (64, 48)])
def test_ssim_equals_scikit_image_in_wang_s_setting(size: tuple[int, int]) -> None:
    from skimage.metrics import structural_similarity

    a = torch.rand(2, 3, *size) * 2 - 1
    b = (a + 0.2 * torch.randn_like(a)).clamp(-1, 1)
    for x, y, found in zip(a, b, ssim(a, b), strict=True):
        _, full = structural_similarity(
            x.double().numpy(), y.double().numpy(), data_range=2.0, channel_axis=0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        # That library fills up the border; we leave it out.
        inside = torch.from_numpy(full)[..., 5:-5, 5:-5]
        torch.testing.assert_close(found.double(), inside.mean(), rtol=0, atol=1e-6)


def test_equal_pictures_are_wholly_similar() -> None:
    a = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(ssim(a, a), torch.ones(2))
