"""PSNR and SSIM against scikit-image and torchmetrics, each fed bytes or [0, 1] as its documentation says."""

import math

import numpy as np
import pytest
import torch
from skimage.data import chelsea
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr
from torchmetrics.functional.image import structural_similarity_index_measure as torchmetrics_ssim

from i2v_core.metrics.pixels import first_frame_ssim, psnr, ssim

WANG = {"channel_axis": -1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def pixels(levels: np.ndarray) -> torch.Tensor:
    """Levels of 0..255, `h w c`, as the core has them: `c h w` in [-1, 1]."""
    return torch.from_numpy(levels).permute(2, 0, 1) / 127.5 - 1


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Two pictures each, in bytes."""
    photograph = chelsea()[:96, :120]
    noise = np.random.default_rng(0).normal(0, 30, photograph.shape)
    flat = np.full((16, 20, 3), 120, np.uint8)
    return {
        "flat greys": (flat, flat + np.uint8(10)),
        "brighter": (photograph, photograph + np.uint8(5)),
        "noisy": (photograph, (photograph + noise).clip(0, 255).astype(np.uint8)),
        "unrelated": (photograph, np.ascontiguousarray(photograph[::-1, ::-1])),
    }


@pytest.mark.parametrize("name", pairs())
def test_scores_are_those_of_the_libraries(name: str) -> None:
    a, b = pairs()[name]
    assert a.max() < 251, "5 levels more are no overflow"
    ours, unit = (pixels(a), pixels(b)), [torch.from_numpy(x).permute(2, 0, 1)[None] / 255 for x in (a, b)]
    assert ssim(*ours).item() == pytest.approx(structural_similarity(a, b, **WANG), abs=1e-6)
    # torchmetrics counts the border too, on mirrored pixels.
    assert ssim(*ours).item() == pytest.approx(torchmetrics_ssim(*unit, data_range=1.0).item(), abs=5e-3)
    assert psnr(*ours).item() == pytest.approx(peak_signal_noise_ratio(a, b), abs=1e-4)
    assert psnr(*ours).item() == pytest.approx(torchmetrics_psnr(*unit, data_range=1.0).item(), abs=1e-3)


def test_a_little_more_light_hardly_counts() -> None:
    assert ssim(*map(pixels, pairs()["flat greys"])).item() == pytest.approx(0.997, abs=1e-3)
    assert ssim(*map(pixels, pairs()["brighter"])).item() > 0.997


def test_known_error_gives_known_decibels() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = a + torch.tensor([0.2, 0.02])[:, None, None, None]
    torch.testing.assert_close(psnr(a, b), torch.tensor([20.0, 40.0]))


def test_equal_pictures_are_as_close_as_can_be() -> None:
    a = 2 * torch.rand(3, 16, 16) - 1
    assert psnr(a, a).item() == math.inf
    assert ssim(a, a).item() == pytest.approx(1)


def test_pictures_may_be_measured_together() -> None:
    a, b = (2 * torch.rand(2, 3, 12, 14, generator=torch.Generator().manual_seed(i)) - 1 for i in range(2))
    torch.testing.assert_close(ssim(a, b), torch.stack([ssim(a[0], b[0]), ssim(a[1], b[1])]))
    clip = torch.stack([b[0], a[1]], dim=1)
    torch.testing.assert_close(first_frame_ssim(clip, a[0]), ssim(b[0], a[0]))


def test_ssim_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match="one shape, got"):
        ssim(torch.zeros(3, 16, 16), torch.zeros(3, 16, 20))
    with pytest.raises(ValueError, match="needs at least 11, got 8"):
        ssim(torch.zeros(3, 8, 16), torch.zeros(3, 8, 16))
