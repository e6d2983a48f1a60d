"""Brightness, contrast and saturation against scikit-image, and drifts of a known size."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2gray, rgb2hsv

from i2v_core.metrics.drift import brightness, contrast, drift_curve, saturation


def test_measures_are_those_of_scikit_image() -> None:
    picture = torch.rand(3, 9, 11, generator=torch.Generator().manual_seed(0))
    picture[:, 0, 0] = 0  # black has no saturation
    array = picture.permute(1, 2, 0).numpy()
    pixels = 2 * picture - 1
    # scikit-image rounds the weights of BT.709 to 0.2125, 0.7154, 0.0721.
    assert brightness(pixels).item() == pytest.approx(rgb2gray(array).mean(), abs=2e-4)
    assert contrast(pixels).item() == pytest.approx(rgb2gray(array).std(), abs=2e-4)
    assert saturation(pixels).item() == pytest.approx(rgb2hsv(array)[..., 1].mean(), abs=1e-6)


def test_drift_is_what_was_added() -> None:
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    added = torch.tensor([0.0, 0.1, 0.2])
    brighter = image[:, None] + added.view(1, 3, 1, 1)
    np.testing.assert_allclose(drift_curve(brightness, brighter, image).numpy(), added.numpy() / 2, atol=1e-6)
    np.testing.assert_allclose(drift_curve(contrast, brighter, image).numpy(), 0, atol=1e-6)
    stronger = image[:, None] * torch.tensor([1.0, 1.5]).view(1, 2, 1, 1)
    np.testing.assert_allclose(
        drift_curve(contrast, stronger, image).numpy(), [0, 0.5 * contrast(image).item()], atol=1e-6
    )
