"""PSNR against its definition, SSIM against scikit-image."""

import math

import pytest
import torch
from skimage.metrics import structural_similarity

from i2v_core.metrics.pixels import first_frame_ssim, psnr, ssim


def test_known_error_gives_known_decibels() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = a + torch.tensor([0.2, 0.02])[:, None, None, None]
    torch.testing.assert_close(psnr(a, b), torch.tensor([20.0, 40.0]))


def test_equal_pictures_are_infinitely_close() -> None:
    a = torch.rand(3, 4, 4)
    assert psnr(a, a).item() == math.inf


def test_ssim_is_scikit_images_in_the_setting_of_wang() -> None:
    generator = torch.Generator().manual_seed(0)
    a = 2 * torch.rand(4, 3, 40, 56, generator=generator) - 1
    b = (a + 0.3 * torch.randn(a.shape, generator=generator)).clamp(-1, 1)
    expected = [
        structural_similarity(
            x.double().numpy(), y.double().numpy(), channel_axis=0, data_range=2.0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for x, y in zip(a, b, strict=True)
    ]  # fmt: skip
    torch.testing.assert_close(ssim(a, b), torch.tensor(expected).float(), rtol=0, atol=1e-6)
    clip = torch.stack([b[0], a[1]], dim=1)
    torch.testing.assert_close(first_frame_ssim(clip, a[0]), ssim(b[0], a[0]))


def test_ssim_of_equal_pictures_is_one() -> None:
    a = 2 * torch.rand(3, 16, 16) - 1
    assert ssim(a, a).item() == pytest.approx(1)


def test_ssim_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match="one shape, got"):
        ssim(torch.zeros(3, 16, 16), torch.zeros(3, 16, 20))
    with pytest.raises(ValueError, match="needs at least 11, got 8"):
        ssim(torch.zeros(3, 8, 16), torch.zeros(3, 8, 16))
