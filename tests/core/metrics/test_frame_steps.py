"""Steps count levels, and a join is held against what happens beside it."""

import pytest
import torch

from i2v_core.metrics.frame_steps import frame_steps, join_ratios


def flat_clip(*levels: float) -> torch.Tensor:
    """Frames of one gray each, in levels of 0..255."""
    return (torch.tensor(levels) / 127.5 - 1).expand(3, 4, 4, -1).permute(0, 3, 1, 2)


def test_steps_are_differences_in_levels() -> None:
    torch.testing.assert_close(frame_steps(flat_clip(10, 12, 12, 7)), torch.tensor([2.0, 0.0, 5.0]), rtol=0, atol=1e-3)


def test_an_even_story_has_joins_of_one() -> None:
    ratios = join_ratios(flat_clip(*range(0, 20, 2)), [3, 6])
    torch.testing.assert_close(ratios, torch.ones(2), rtol=0, atol=1e-3)


def test_a_jump_counts_at_its_join_only() -> None:
    clip = flat_clip(0, 1, 2, 3, 9, 10, 11, 13, 15, 17)  # parts of 3 steps; the first join jumps by 6
    torch.testing.assert_close(join_ratios(clip, [3, 6]), torch.tensor([6.0, 1.0]), rtol=0, atol=1e-3)


def test_one_frame_has_no_steps() -> None:
    with pytest.raises(ValueError, match="at least two frames, got 1"):
        frame_steps(torch.zeros(3, 1, 4, 4))
