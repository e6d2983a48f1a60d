"""Continue Video gives the end of a clip, Join Clips puts clips together without saying anything twice."""

from collections.abc import Callable
from typing import Any

import pytest
import torch


def images(frames: int, seed: int = 0, height: int = 16, width: int = 24, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.25 + 0.5 * torch.rand(frames, height, width, channels, generator=generator)


@pytest.fixture
def continued(node_classes: dict[str, Any]) -> Callable[..., Any]:
    return lambda *arguments: node_classes["I2VContinueVideo"].execute(*arguments).result


@pytest.fixture
def joined(node_classes: dict[str, Any]) -> Callable[..., torch.Tensor]:
    return lambda *arguments, **more: node_classes["I2VJoinClips"].execute(*arguments, **more).result[0]


def test_without_a_reference_the_end_is_given_as_it_is(continued: Callable[..., Any]) -> None:
    clip = images(5)
    picture, same = continued(clip, 1.0, 1)
    assert torch.equal(picture, clip[-1:])
    assert same is clip
    assert torch.equal(continued(clip, 1.0, 3)[0], clip[2:])


def test_a_reference_s_colors_are_those_of_the_last_frame(continued: Callable[..., Any]) -> None:
    clip = images(5)
    faded, before = 0.8 * clip + 0.15, (0.8 * clip + 0.15).clone()
    picture, led = continued(faded, 1.0, 1, clip[-1:])
    torch.testing.assert_close(picture, clip[-1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(led[:1], faded[:1], rtol=0, atol=1e-6)
    assert torch.equal(led[-1:], picture)
    assert torch.equal(faded, before), "the host caches what nodes return; nobody may write into it"
    half = continued(faded, 0.5, 1, clip[-1:])[0]
    torch.testing.assert_close(half, (faded[-1:] + clip[-1:]) / 2, rtol=0, atol=1e-5)
    assert continued(faded, 0.0, 1, clip[-1:])[1] is faded


def test_transparency_does_not_count_as_a_color(continued: Callable[..., Any]) -> None:
    picture, _ = continued(images(2, channels=4), 1.0, 1, images(1, seed=1, height=8))
    assert picture.shape == (1, 16, 24, 3)


def test_a_clip_that_is_too_short_is_refused(continued: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="at least the 3 frames to continue, got 2"):
        continued(images(2), 1.0, 3)


def test_joining_what_was_cut_with_an_overlap_gives_the_whole(joined: Callable[..., torch.Tensor]) -> None:
    whole = images(11)
    assert torch.equal(joined(whole[:4], whole[3:7], 1, False, clip_3=whole[6:9], clip_5=whole[8:]), whole)
    assert torch.equal(joined(whole[:4], whole[2:], 2, False, clip_3=None), whole)
    assert torch.equal(joined(whole[:4], whole[4:], 0, False), whole)


def test_matched_colors_take_a_clip_s_tint_away(joined: Callable[..., torch.Tensor]) -> None:
    whole = images(7)
    tinted = whole[3:] * torch.tensor([0.9, 1.0, 1.1]) + 0.05
    torch.testing.assert_close(joined(whole[:4], tinted, 1, True), whole, rtol=0, atol=1e-5)
    assert joined(images(2, channels=4), images(2, seed=1, channels=4), 1, True).shape == (3, 16, 24, 3)


@pytest.mark.parametrize(
    ("second", "shared", "match", "sentence"),
    [
        (images(3, width=32), 1, False, "clip 2 is 32x16 with 3 channels, the first is 24x16"),
        (images(3, channels=4), 1, False, "clip 2 is 24x16 with 4 channels"),
        (images(2), 2, False, "clip 2 has 2 frames, and 2 of them are shared"),
        (images(2), 0, True, "needs shared frames"),
    ],
)
def test_clips_that_do_not_fit_are_refused(
    joined: Callable[..., torch.Tensor], second: torch.Tensor, shared: int, match: bool, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        joined(images(3), second, shared, match)
