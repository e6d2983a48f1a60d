"""Memory predicted without numbers is what a real step takes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from i2v_core.model.look_back import LookBack, LookBackConfig, find_sites
from i2v_core.model.seams import Seams
from i2v_core.model.video_unet import VideoUNet
from i2v_core.training.memory import LiveBytes, count_step, predict_memory
from tests.core.weights.small import SMALL_IMAGE_MODEL

UNET = replace(SMALL_IMAGE_MODEL, channel_mult=(1, 2), attention_levels=(0,), num_res_blocks=1)


def make_step(checkpointing: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Look-back on a frozen base."""
    unet = VideoUNet(UNET).requires_grad_(False).train()
    unet.gradient_checkpointing = checkpointing
    look_back = LookBack(LookBackConfig(sites=find_sites("stage", 32, UNET.channel_mult, 1)))
    x, times, text = torch.randn(1, 4, 4, 16, 16), torch.full((1,), 500.0), torch.randn(1, 7, 64)

    def loss() -> Tensor:
        return unet(x, times, text, seams=Seams(after_block=look_back.after_block())).square().mean()

    return nn.ModuleDict({"unet": unet, "look_back": look_back}), loss


def test_a_step_without_numbers_takes_what_a_real_one_does() -> None:
    peaks = {}
    for checkpointing in (False, True):
        predicted = predict_memory(partial(make_step, checkpointing)).step
        real = count_step(make_step(checkpointing)[1])
        assert abs(predicted - real) < 0.02 * real
        peaks[checkpointing] = predicted
    assert peaks[True] < 0.7 * peaks[False]


def test_every_part_is_counted_by_its_precision() -> None:
    def make() -> tuple[nn.Module, Callable[[], Tensor]]:
        frozen, trained = nn.Linear(64, 64, bias=False).requires_grad_(False), nn.Linear(64, 64, bias=False)
        x = torch.randn(2, 64)
        return nn.ModuleList([frozen, trained]), lambda: trained(frozen(x)).sum()

    numbers = 64 * 64
    plain, small = predict_memory(make), predict_memory(make, optimizer="adamw8bit", average=False)
    assert (plain.weights, plain.gradients) == (8 * numbers, 4 * numbers)
    assert (plain.optimizer, plain.average, plain.update) == (8 * numbers, 4 * numbers, 4 * numbers)
    assert (small.optimizer, small.average, small.update) == (2 * numbers, 0, 0)
    # Both gradient and optimizer step hold little else here.
    assert plain.peak == 20 * numbers + 8 * numbers
    assert plain.gradients <= plain.step < plain.gradients + 8 * 2 * 64 * 4


def test_views_of_what_was_there_are_not_new() -> None:
    weight = torch.randn(8, 8)
    with LiveBytes() as count:
        kept = weight.t() + 0
        del kept
        torch.ones(4).sum()
    assert (count.live, count.peak) == (0, 8 * 8 * 4)
