"""Sizes, channels and ranges of pictures."""

import pytest
import torch
from skimage import data
from torch import Tensor

from i2v_core.video import (
    FitMode,
    clip_to_frames,
    fit_image,
    fit_size,
    frames_to_clip,
    to_bytes,
    to_model_range,
    to_rgb,
    to_unit_range,
)
from i2v_core.video.frames import check_size


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return torch.from_numpy(data.chelsea().copy())  # 300 451 3


def test_bytes_survive_the_model_range_exactly() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    model = to_model_range(levels)
    assert (model.min(), model.max()) == (-1, 1)
    assert torch.equal(to_bytes(to_unit_range(model)), levels)


def test_frames_and_clips_are_inverse() -> None:
    frames = torch.rand(2, 5, 6, 7, 3)  # b t h w c
    clip = frames_to_clip(frames)
    assert clip.shape == (2, 3, 5, 6, 7)
    assert torch.equal(clip[1, 2, 4], frames[1, 4, :, :, 2] * 2 - 1)
    torch.testing.assert_close(clip_to_frames(clip), frames)


def test_overshoot_is_clamped() -> None:
    assert to_unit_range(torch.tensor([-3.0, 3.0])).tolist() == [0, 1]
    assert to_bytes(torch.tensor([-0.5, 1.5])).tolist() == [0, 255]


def test_grey_is_repeated_and_alpha_lies_over_white() -> None:
    grey = torch.rand(4, 5, 1)
    assert torch.equal(to_rgb(grey), grey.expand(4, 5, 3))
    red = torch.tensor([1.0, 0, 0, 0.25]).expand(4, 5, 4)
    assert torch.allclose(to_rgb(red)[0, 0], torch.tensor([1.0, 0.75, 0.75]))
    assert to_rgb((red * 255).round().byte())[0, 0].tolist() == [255, 191, 191]
    opaque = torch.rand(4, 5, 4)
    opaque[..., 3] = 1
    assert torch.allclose(to_rgb(opaque), opaque[..., :3])


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(64, 64), (33, 96), (300, 451), (600, 500), (1, 1)])
def test_every_mode_gives_the_size_dtype_and_range(photo: Tensor, mode: FitMode, size: tuple[int, int]) -> None:
    assert fit_image(photo, *size, mode).shape == (*size, 3)
    assert fit_image(photo, *size, mode).dtype == torch.uint8
    half = fit_image((photo / 255).half().expand(2, -1, -1, -1), *size, mode)
    assert half.shape == (2, *size, 3)
    assert half.dtype == torch.float16
    assert 0 <= half.min() <= half.max() <= 1


def test_the_own_size_changes_nothing(photo: Tensor) -> None:
    assert torch.equal(fit_image(photo, 300, 451), photo)


def test_crop_keeps_the_middle_and_pad_adds_black_bars(photo: Tensor) -> None:
    torch.testing.assert_close(fit_image(photo, 300, 301, "crop"), photo[:, 75:376])
    padded = fit_image(photo, 400, 451, "pad")
    assert torch.equal(padded[50:350], photo)
    assert padded[:50].max() == padded[350:].max() == 0


def test_stretch_is_the_area_mean_of_a_fine_pattern() -> None:
    # Without antialiasing, every eighth column of a stripe pattern would come out black or white.
    stripes = (torch.arange(512) % 2).float().expand(512, 512)[..., None]
    assert (fit_image(stripes, 64, 64, "stretch")[8:-8, 8:-8] - 0.5).abs().max() < 0.05


def test_sizes_go_to_the_nearest_multiple() -> None:
    assert fit_size(300, 451, 8) == (304, 448)
    assert fit_size(3, 64, 64) == (64, 64)
    with pytest.raises(ValueError, match="positive"):
        fit_size(0, 64)


def test_sizes_between_multiples_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"multiples of 8, got 321x508; the nearest is 320x512"):
        check_size(321, 508)
    check_size(320, 512)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused_with_advice(value: float) -> None:
    picture = torch.zeros(8, 8, 3)
    picture[3, 3, 1] = value
    with pytest.raises(ValueError, match=r"NaN or infinite.*float32"):
        fit_image(picture, 4, 4)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (torch.zeros(3, 8, 8), "last axis"),
        (torch.zeros(8, 8), "channels"),
        (torch.zeros(8, 8, 2), "channels"),
        (torch.zeros(8, 8, 3, dtype=torch.int64), "uint8 or floating point"),
    ],
)
def test_other_pictures_are_refused(picture: Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fit_image(picture, 8, 8)


def test_an_unknown_mode_and_an_empty_size_are_refused() -> None:
    with pytest.raises(ValueError, match="'crop', 'pad' or 'stretch'"):
        fit_image(torch.zeros(8, 8, 3), 8, 8, "zoom")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="below one pixel"):
        fit_image(torch.zeros(8, 8, 3), 0, 8)
