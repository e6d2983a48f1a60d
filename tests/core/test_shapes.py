"""Geometry: pixels to latents and back."""

import pytest
import torch

from i2v_core.shapes import VideoShape, nearest_multiple


@pytest.mark.parametrize("downscale", [1, 4, 8])
def test_latents_of_pixels_have_the_pixels_again(downscale: int) -> None:
    pixels = VideoShape(2, 3, 16, 320, 512)
    latents = pixels.to_latent(4, downscale)
    assert latents.as_tuple() == (2, 4, 16, 320 // downscale, 512 // downscale)
    assert latents.to_pixels(downscale) == pixels


def test_a_shape_is_read_from_a_clip() -> None:
    clip = torch.empty(2, 4, 16, 40, 64)
    assert torch.empty(VideoShape.of(clip).as_tuple()).shape == clip.shape


def test_sizes_between_multiples_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"multiples of 8, got 321 x 508; the nearest is 320 x 512"):
        VideoShape(1, 3, 16, 321, 508).to_latent(4, 8)


@pytest.mark.parametrize("shape", [(2, 3, 16, 8), (3, 16, 8, 8, 1, 1)])
def test_another_number_of_axes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="five axes"):
        VideoShape.of(torch.empty(shape))


def test_an_empty_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        VideoShape(1, 3, 0, 8, 8)


def test_the_nearest_multiple_is_never_zero() -> None:
    assert [nearest_multiple(size, 8) for size in (1, 8, 11, 12, 13)] == [8, 8, 8, 16, 16]
