"""Figures move as their captions say, from a first frame that does not tell how."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from i2v_core.data.figure_words import CAMERA_MOTIONS, MOVES, SPEEDS, UNSEEN_MOVES
from i2v_core.data.figures import GROWTH, MOTIONS, TRAVEL, ZOOM, Figures, FiguresConfig
from i2v_core.model.text_encoder import TextEncoderConfig, word_ids
from tests.core.data.small_figures import COUNT, small_figures


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    return Figures(small_figures(tmp_path_factory.mktemp("figures")))


def figure_mask(data: Figures, index: int, motion: str, speed: str = "") -> Tensor:
    """Where the figure is, `t h w` from 0 to 1: what it hides of a white and of a black background."""
    scene = replace(data.draw(index)[0], speed=speed, center=(0.0, 0.0), side=0.5)
    white, black = (
        data.render(replace(scene, background=torch.full((1, 3, 2, 2), value)), motion) for value in (1.0, 0.0)
    )
    return 1 - (white - black).mean(0)


def middle(mask: Tensor) -> Tensor:
    """Center of a mask `t h w` in every frame, `t 2` (x, y) in sides of the clip."""
    axis = (torch.arange(mask.shape[-1]) + 0.5) / mask.shape[-1] - 0.5
    total = mask.sum((1, 2))
    return torch.stack([(mask.sum(1) * axis).sum(1) / total, (mask.sum(2) * axis).sum(1) / total], dim=1)


def test_a_clip_depends_on_configuration_and_index_only(data: Figures) -> None:
    first, again = data.clip(7), Figures(data.config)
    again.clip(2)
    assert torch.equal(again.clip(7).pixels, first.pixels) and again.clip(7).caption == first.caption
    assert not torch.equal(Figures(replace(data.config, seed=1)).clip(7).pixels, first.pixels)
    assert first.pixels.shape == (3, 4, 32, 32) and first.pixels.abs().max() <= 1


def test_the_first_frame_does_not_tell_the_motion(data: Figures) -> None:
    still = data.clip(5, "still").pixels
    for motion in MOTIONS:
        clip = data.clip(5, motion).pixels
        torch.testing.assert_close(clip[:, 0], still[:, 0], rtol=0, atol=1e-5)
        # The little disk turns on the spot, unseen.
        assert motion in ("still", "turn") or (clip[:, -1] - still[:, -1]).abs().mean() > 1e-3


@pytest.mark.parametrize(("motion", "x", "y"), [("left", -1, 0), ("right", 1, 0), ("up", 0, -1), ("down", 0, 1)])
def test_figures_slide_and_cameras_pan_as_far_as_they_should(data: Figures, motion: str, x: int, y: int) -> None:
    for speed, factor in SPEEDS.items():
        if factor > 1:
            continue  # out of the picture
        far = factor * TRAVEL * torch.linspace(0, 1, 4)[:, None] * torch.tensor([x, y])
        torch.testing.assert_close(middle(figure_mask(data, 3, motion, speed)), far.float(), rtol=0, atol=5e-3)
        torch.testing.assert_close(middle(figure_mask(data, 3, f"pan_{motion}", speed)), -far, rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    ("motion", "ratio"), [("grow", GROWTH), ("shrink", 1 / GROWTH), ("zoom_in", ZOOM), ("zoom_out", 1 / ZOOM)]
)
def test_figures_change_their_size_as_much_as_they_should(data: Figures, motion: str, ratio: float) -> None:
    areas = figure_mask(data, 3, motion).sum((1, 2))
    assert (areas[-1] / areas[0]).sqrt().item() == pytest.approx(ratio, rel=0.02)


def test_nothing_of_the_test_is_in_the_training(data: Figures) -> None:
    test = data.held_out()
    assert isinstance(test, Figures) and not set(test.names) & set(data.names)
    assert len(test.names) + len(data.names) == COUNT
    for motion, moves in UNSEEN_MOVES.items():
        assert not set(moves) & set(MOVES[motion])
    words = {word for moves in MOVES.values() for move in moves for word in move.split()}
    assert {word for moves in UNSEEN_MOVES.values() for move in moves for word in move.split()} <= words | {"and"}
    assert len({word_ids(word, TextEncoderConfig().vocab_size)[0] for word in words}) == len(words)


def test_another_motion_changes_the_caption_by_its_words_only(data: Figures) -> None:
    for index in range(20):
        motion, caption = data.draw(index)[2], data.clip(index).caption
        assert any(move in caption for move in MOVES[motion])
        contrast = data.contrast(index)
        assert contrast != caption and contrast.split()[0] == caption.split()[0]


def test_true_clips_are_nearest_to_their_own_motion(data: Figures) -> None:
    data = Figures(replace(data.config, backgrounds=("texture",)))
    for index, motion in enumerate(MOTIONS):
        clip = data.clip(index, motion).pixels
        if motion != "turn":  # of a disk, on the spot
            assert data.nearest_motion(index, clip) == motion
        assert data.nearest_motion(index, clip[:, :1].expand_as(clip)) in ("still", "turn")


def test_half_of_the_captions_name_the_figure(data: Figures) -> None:
    generator = torch.Generator().manual_seed(0)
    captions = [data.labeled_caption(generator) for _ in range(400)]
    named = [each for each in captions if "name" in each.classes]
    assert len(named) / len(captions) == pytest.approx(0.5, abs=0.08)
    assert all(f"a {each.classes['name']} " in each.caption for each in named)
    always = Figures(replace(data.config, named=1.0, placed=1.0))
    assert all({"name", "color"} <= set(always.labeled_caption(generator).classes) for _ in range(20))
    assert {each.classes["motion"] for each in captions} == set(MOTIONS) >= set(CAMERA_MOTIONS)


def test_the_fingerprint_is_of_the_figures_and_not_of_their_place(data: Figures, tmp_path: Path) -> None:
    config = small_figures(tmp_path / "elsewhere")
    assert Figures(config).fingerprint() == data.fingerprint()
    assert Figures(replace(config, seed=1)).fingerprint() != data.fingerprint()
    next(iter(Figures(config).paths.values())).write_bytes(b"another picture")
    assert Figures(config).fingerprint() != data.fingerprint()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"motions": ("jump",)}, "there is no motion 'jump'"),
        ({"motions": ()}, "at least one"),
        ({"colors": ("ultraviolet",)}, "there is no color 'ultraviolet'"),
        ({"sides": (0.6, 0.4)}, "the smaller one first"),
        ({"named": 1.5}, "named must be from 0 to 1"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FiguresConfig(**settings)  # type: ignore[arg-type]


def test_a_missing_folder_says_where_figures_come_from(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="npm pack @lobehub/fluent-emoji-3d"):
        Figures(FiguresConfig(folder=str(tmp_path)))
