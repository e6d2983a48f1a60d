"""What an image encoder sees, against the reference's own resizing."""

import pytest
import torch

from i2v_core.video.clip_pixels import CLIP_DEVIATION, CLIP_MEAN, clip_pixels, squash
from tests.parity import seeded

CASE = seeded.load("clip_resize")
INPUTS, EXPECTED = seeded.inputs(CASE), seeded.expected(CASE)


@pytest.mark.parametrize("name", INPUTS)
def test_squashing_equals_the_reference(name: str) -> None:
    result = squash(INPUTS[name] / 3, 224, 224)
    assert result.shape == (1, 3, 224, 224)
    assert (result[..., 3::8, 5::8] - EXPECTED[name]).abs().max() < 1e-4


def test_a_flat_picture_stays_flat_so_that_the_null_image_has_no_size() -> None:
    grey = [clip_pixels(torch.zeros(1, 3, *size)) for size in ((40, 60), (576, 1024), (224, 224))]
    expected = [(0.5 - mean) / deviation for mean, deviation in zip(CLIP_MEAN, CLIP_DEVIATION, strict=True)]
    for pixels in grey:
        torch.testing.assert_close(pixels.mean(dim=(0, 2, 3)), torch.tensor(expected), atol=1e-5, rtol=0)
        assert pixels.std(dim=(2, 3)).max() < 1e-5


def test_nothing_is_cropped() -> None:
    """A mark at either end of a wide picture arrives at that end of the square."""
    wide = torch.zeros(1, 3, 64, 640)
    wide[..., :40], wide[..., -40:] = 1, -1
    square = squash(wide, 224, 224)
    assert square[..., 0].min() > 0.9
    assert square[..., -1].max() < -0.9


def test_values_are_neither_clamped_nor_rounded() -> None:
    edge = torch.ones(1, 3, 16, 16)
    edge[..., 8:] = -1
    assert squash(edge, 224, 224).max() > 1.01
    faint = torch.full((1, 3, 224, 224), 1e-3)
    assert (clip_pixels(faint) - clip_pixels(torch.zeros_like(faint))).min() > 1e-3


def test_another_encoder_has_its_own_size_and_colors() -> None:
    pixels = clip_pixels(torch.ones(2, 3, 30, 50, dtype=torch.float16), 96, (0.5,) * 3, (0.5,) * 3)
    assert (pixels.shape, pixels.dtype) == ((2, 3, 96, 96), torch.float32)
    torch.testing.assert_close(pixels, torch.ones_like(pixels))
