from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch


@pytest.fixture
def convert(pack: ModuleType, host_module: Callable[[str], Any]) -> Any:
    return host_module(f"{pack.__name__}.nodes.convert")


def test_rows_and_clips_are_inverse_and_keep_frames_of_a_clip_together(convert: Any) -> None:
    rows = torch.randn(6, 2, 3, 5)
    clips = convert.rows_to_clips(rows, 3)
    assert clips.shape == (2, 2, 3, 3, 5)
    assert torch.equal(clips[1, :, 0], rows[3])
    assert torch.equal(convert.clips_to_rows(clips), rows)


def test_a_picture_of_the_right_size_keeps_its_values(convert: Any) -> None:
    image = torch.rand(1, 16, 24, 3)
    assert torch.equal(convert.fit_given_image(image, 16, 24, "crop", 8), image)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures_become_rgb(convert: Any, channels: int) -> None:
    image = torch.full((1, 16, 16, channels), 0.25)
    fitted = convert.fit_given_image(image.half(), 16, 16, "crop", 8)
    expected = 0.25 if channels == 1 else 0.25 * 0.25 + 0.75  # a quarter of it over white
    assert fitted.dtype == torch.float32
    torch.testing.assert_close(fitted, torch.full((1, 16, 16, 3), expected))


def test_sizes_that_no_latent_has_are_refused_with_the_nearest(convert: Any) -> None:
    with pytest.raises(ValueError, match="multiples of 8, got 60x44; the nearest is 64x48"):
        convert.fit_given_image(torch.rand(1, 16, 16, 3), 60, 44, "crop", 8)


def test_several_pictures_and_nan_are_refused(convert: Any) -> None:
    with pytest.raises(ValueError, match="one picture to animate, got 3"):
        convert.fit_given_image(torch.rand(3, 16, 16, 3), 16, 16, "crop", 8)
    with pytest.raises(ValueError, match="NaN"):
        convert.fit_given_image(torch.full((1, 16, 16, 3), torch.nan), 16, 16, "crop", 8)


def test_the_empty_latent_has_the_frames_as_batch(convert: Any) -> None:
    latent = convert.empty_video_latent(torch.randn(1, 12, 4, 6), 5)
    assert latent["samples"].shape == (5, 12, 4, 6)
    assert not latent["samples"].any()
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        convert.empty_video_latent(torch.randn(1, 12, 4, 6), 1)
