"""What a run is going to do, told before its first step."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from .config import TrainingConfig

FLOAT32 = 4  # bytes
ADAM_STATES = {"adamw": 2 * FLOAT32, "adamw8bit": 2}  # bytes for each trained parameter


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process by what holds them; activations come on top, which no count of parameters can tell."""

    weights: int
    gradients: int
    optimizer: int
    average: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.average


def estimate_memory(networks: nn.Module, config: TrainingConfig) -> MemoryEstimate:
    """Count what weights, gradients, optimizer and average take, unsharded."""
    parameters = list(networks.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return MemoryEstimate(
        weights=sum(p.numel() * p.element_size() for p in parameters),
        gradients=sum(p.numel() * p.element_size() for p in parameters if p.requires_grad),
        optimizer=trained * ADAM_STATES[config.optim.optimizer],
        average=trained * FLOAT32 if config.train.ema.decay else 0,
    )


@dataclass(frozen=True)
class Plan:
    """What is trained on what, for how long.

    Attributes:
        trained: parameters and learning rate by network; `frozen`: parameters of the same networks that stay.
        step, steps: done so far, and in all; a step is `processes x batch x accumulation` clips.
        seconds_per_step: measured; None if nothing was measured.
        peak_memory: measured bytes, activations included; None if nothing was measured.
    """

    name: str
    base: str
    data: str
    trained: Mapping[str, tuple[int, float]]
    frozen: int
    memory: MemoryEstimate
    step: int
    steps: int
    processes: int
    batch: int
    accumulation: int
    seconds_per_step: float | None
    peak_memory: int | None

    def text(self) -> str:
        """Lines for people."""
        trained = ", ".join(
            f"{name} {_millions(count)} at rate {rate:g}" for name, (count, rate) in self.trained.items()
        )
        memory = self.memory
        clips = self.processes * self.batch * self.accumulation
        lines = [
            f"method:  {self.name}, base: {self.base}",
            f"data:    {self.data}",
            f"trained: {trained}; frozen {_millions(self.frozen)}",
            f"memory:  {_size(memory.total)} and activations: weights {_size(memory.weights)}, gradients "
            f"{_size(memory.gradients)}, optimizer {_size(memory.optimizer)}, average {_size(memory.average)}",
            f"steps:   {self.steps} of {clips} clips ({self.processes} processes x batch {self.batch} x accumulation "
            f"{self.accumulation}), {self.step} done",
        ]
        if self.seconds_per_step is not None:
            left = (self.steps - self.step) * self.seconds_per_step
            lines.append(f"time:    {self.seconds_per_step:.2f} s a step as measured, {_duration(left)} to go")
        if self.peak_memory is not None:
            lines.append(f"         {_size(self.peak_memory)} at the peak of the measured steps")
        return "\n".join(lines)


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def _size(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
