"""Laws of step caching on a small video U-Net."""

from typing import Any

import pytest
import torch
from torch import Tensor

from i2v_core.model.seams import BlockAddress, Seams
from i2v_core.model.step_cache import BranchCache, StepCache, StepCacheConfig
from i2v_core.model.video_unet import VideoUNet
from tests.core.weights.small import SMALL, largest_difference, seed
from tests.parity.seeded import seeded_normal

OUTER = [BlockAddress("input", 0), BlockAddress("input", 1), BlockAddress("output", 2), BlockAddress("output", 3)]


@pytest.fixture(scope="module")
def unet() -> VideoUNet:
    return seed(VideoUNet(SMALL))


def inputs(timestep: float = 800.0, change: float = 0.0) -> dict[str, Any]:
    x = seeded_normal("x", (1, 4, 3, 8, 8)) + change * seeded_normal("change", (1, 4, 3, 8, 8))
    return {"x": x, "timesteps": torch.tensor([timestep]), "text": seeded_normal("text", (1, 7, SMALL.context_dim))}


def branch(bound: float) -> BranchCache:
    return StepCache(StepCacheConfig(bound, outer=2)).branch(0)


@torch.no_grad()
def test_a_bound_of_zero_computes_every_step(unet: VideoUNet) -> None:
    cache = branch(0.0)
    for _ in range(2):
        assert torch.equal(unet(**inputs(), reuse=cache), unet(**inputs()))
    assert (cache.computed, cache.reused) == (2, 0)


@torch.no_grad()
def test_where_nothing_changed_reuse_is_exact_and_runs_the_outer_blocks_alone(unet: VideoUNet) -> None:
    cache, ran = branch(0.1), list[BlockAddress]()

    def note(h: Tensor, address: BlockAddress) -> Tensor:
        ran.append(address)
        return h

    expected = unet(**inputs(), reuse=cache)
    assert torch.equal(unet(**inputs(), reuse=cache, seams=Seams(after_block=note)), expected)
    assert ran == OUTER


@torch.no_grad()
def test_a_reused_step_is_nearer_to_its_own_answer_than_the_step_before(unet: VideoUNet) -> None:
    cache = branch(10.0)
    before = unet(**inputs(), reuse=cache)
    own, reused = unet(**inputs(780.0, 0.3)), unet(**inputs(780.0, 0.3), reuse=cache)
    assert cache.reused == 1
    assert 0 < largest_difference(reused, own) < largest_difference(before, own)


@torch.no_grad()
def test_changes_add_up_until_they_reach_the_bound(unet: VideoUNet) -> None:
    measuring = branch(100.0)
    for step in range(2):
        unet(**inputs(change=0.02 * step), reuse=measuring)
    cache = branch(2.5 * measuring.changed)
    counts = []
    for step in range(5):
        unet(**inputs(change=0.02 * step), reuse=cache)
        counts.append((cache.computed, cache.reused))
    assert counts == [(1, 0), (1, 1), (1, 2), (2, 2), (2, 3)]


@torch.no_grad()
def test_going_back_in_time_begins_anew(unet: VideoUNet) -> None:
    cache = branch(10.0)
    for timestep in (500.0, 500.0, 900.0):
        last = unet(**inputs(timestep), reuse=cache)
    assert (cache.computed, cache.reused) == (2, 1)
    assert torch.equal(last, unet(**inputs(900.0)))


@torch.no_grad()
def test_branches_do_not_know_each_other(unet: VideoUNet) -> None:
    cache = StepCache(StepCacheConfig(10.0, outer=2))
    other = {**inputs(), "text": -inputs()["text"]}
    expected = unet(**inputs(), reuse=cache.branch("text")), unet(**other, reuse=cache.branch("no text"))
    assert torch.equal(unet(**inputs(), reuse=cache.branch("text")), expected[0])
    assert torch.equal(unet(**other, reuse=cache.branch("no text")), expected[1])
    assert (cache.computed, cache.reused) == (2, 2)


@torch.no_grad()
def test_a_clip_of_another_size_begins_anew(unet: VideoUNet) -> None:
    cache = branch(10.0)
    unet(**inputs(), reuse=cache)
    larger = {**inputs(), "x": seeded_normal("larger", (1, 4, 4, 8, 8))}
    assert torch.equal(unet(**larger, reuse=cache), unet(**larger))


@pytest.mark.parametrize("wrong", [{"bound": -0.1}, {"bound": 0.1, "outer": 0}])
def test_meaningless_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="bound must be 0 or more and outer 1 or more"):
        StepCacheConfig(**wrong)
