"""What a plan says of memory: every part by its precision, and what to change where a GPU has too little."""

from dataclasses import replace

import pytest
from torch import nn

from i2v_core.data import DataConfig
from i2v_core.training.config import (
    EmaConfig,
    LoraConfig,
    MethodConfig,
    OptimConfig,
    TrainConfig,
    TrainingConfig,
)
from i2v_core.training.plan import MemoryEstimate, Plan, advice, estimate_memory

CONFIG = TrainingConfig(MethodConfig("trip"), TrainConfig("run", 10, train_batch_size=2), data=DataConfig("clips"))
MIB = 2**20


def plan(memory: MemoryEstimate, gpu: int | None) -> Plan:
    return Plan(
        name="trip", base="base", data="two clips\nskipped: a.mp4: is too short", trained={"adapter": (1000, 1e-3)},
        frozen=0, memory=memory, step=0, steps=10, processes=1, batch=2, accumulation=1, seconds_per_step=None,
        peak_memory=None, gpu=gpu, lighter=advice(CONFIG),
    )  # fmt: skip


def test_networks_beside_count_and_what_is_trained_counts_more() -> None:
    trained, beside = nn.Linear(64, 64, bias=False), nn.Linear(64, 32, bias=False).requires_grad_(False)
    numbers = 64 * 64
    memory = estimate_memory(trained, CONFIG, [beside])
    assert memory == MemoryEstimate(6 * numbers, 4 * numbers, 8 * numbers, 4 * numbers, 4 * numbers)
    # The largest is the optimizer's step or the backward pass, whichever holds more beside.
    assert memory.total == 26 * numbers
    assert replace(memory, activations=10 * numbers).total == 32 * numbers


@pytest.mark.parametrize(("gpu", "tells"), [(None, False), (400 * MIB, False), (399 * MIB, True)])
def test_too_small_a_gpu_is_told_with_lighter_keys(gpu: int | None, tells: bool) -> None:
    memory = MemoryEstimate(100 * MIB, 100 * MIB, 0, 0, 50 * MIB, 200 * MIB)
    text = plan(memory, gpu).text()
    assert "memory:  400 MiB: weights 100 MiB" in text
    assert "activations 200 MiB" in text
    assert ("this GPU has 399 MiB: too little. Lighter: train.gradient_checkpointing = true" in text) == tells
    assert "         skipped: a.mp4: is too short" in text.splitlines()


def test_a_step_that_was_not_counted_is_told() -> None:
    assert "activations on top, not counted" in plan(MemoryEstimate(MIB, MIB, MIB, MIB, MIB), None).text()


def test_only_what_is_not_done_yet_is_advised() -> None:
    light = TrainConfig(
        "run", 10, train_batch_size=1, gradient_checkpointing=True, mixed_precision="bf16", ema=EmaConfig(0)
    )
    done = replace(
        CONFIG, train=light, lora=LoraConfig(), optim=OptimConfig("adamw8bit"),
        data=DataConfig("clips", cache_latents=True),
    )  # fmt: skip
    assert advice(done) == "fewer data.frames, or a smaller picture"
    assert advice(CONFIG).count(";") == 7
