"""The plan of a run, told before its first step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent

from torch import nn

from .config import TrainingConfig
from .memory import FLOAT32, STATES, WHILE_UPDATING


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process by what holds them, as far as tensors go.

    Attributes:
        weights: of all networks, trained or not.
        activations: what a step holds beside the gradients at its largest; None where no step was counted.
        update: what the optimizer's step makes for itself.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    update: int
    activations: int | None = None

    @property
    def total(self) -> int:
        held = self.weights + self.gradients + self.optimizer + self.average
        return held + max(self.activations or 0, self.update)


def estimate_memory(
    networks: nn.Module, config: TrainingConfig, companions: Sequence[nn.Module] = ()
) -> MemoryEstimate:
    """Count what weights, gradients, optimizer and average take, unsharded; `companions` are frozen networks beside."""
    parameters = list(nn.ModuleList([networks, *companions]).parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return MemoryEstimate(
        weights=sum(p.numel() * p.element_size() for p in parameters),
        gradients=sum(p.numel() * p.element_size() for p in parameters if p.requires_grad),
        optimizer=trained * STATES[config.optim.optimizer],
        average=trained * FLOAT32 if config.train.ema.decay else 0,
        update=trained * WHILE_UPDATING[config.optim.optimizer],
    )


def advice(config: TrainingConfig) -> str:
    """Settings that take less memory than the configuration's, by its keys, the most harmless first."""
    train, small = config.train, dict[str, bool]()
    small["train.gradient_checkpointing = true"] = train.gradient_checkpointing
    small["train.train_batch_size = 1 with train.gradient_accumulation_steps"] = train.train_batch_size == 1
    small["data.cache_latents = true"] = getattr(config.data, "cache_latents", True)
    small['train.mixed_precision = "bf16"'] = train.mixed_precision != "no"
    small['optim.optimizer = "adamw8bit"'] = config.optim.optimizer == "adamw8bit"
    small["train.ema.decay = 0"] = not train.ema.decay
    small["[lora], where weights of the base are trained"] = config.lora is not None
    lighter = [key for key, done in small.items() if not done]
    return "; ".join([*lighter, "fewer data.frames, or a smaller picture"])


@dataclass(frozen=True)
class Plan:
    """The plan: networks, data, steps, time and memory.

    Attributes:
        trained: parameters and learning rate by network; `frozen`: parameters of the same networks that stay.
        step, steps: done so far, and in all; a step is `processes x batch x accumulation` clips.
        seconds_per_step: measured; None if nothing was measured.
        peak_memory: measured bytes, activations included; None if nothing was measured.
        gpu: bytes of its memory; None on the CPU.
        lighter: what to change where that is too little.
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
    gpu: int | None = None
    lighter: str = ""

    def text(self) -> str:
        """Lines for people."""
        trained = ", ".join(
            f"{name} {_millions(count)} at rate {rate:g}" for name, (count, rate) in self.trained.items()
        )
        memory = self.memory
        clips = self.processes * self.batch * self.accumulation
        lines = [
            f"method:  {self.name}, base: {self.base}",
            f"data:    {indent(self.data, ' ' * 9).lstrip()}",
            f"trained: {trained}; frozen {_millions(self.frozen)}",
            f"memory:  {_size(memory.total)}: weights {_size(memory.weights)}, gradients {_size(memory.gradients)}, "
            f"optimizer {_size(memory.optimizer)}, average {_size(memory.average)}, "
            + (
                "activations on top, not counted (logging.plan_steps = 0)"
                if memory.activations is None
                else f"activations {_size(memory.activations)}"
            ),
            f"steps:   {self.steps} of {clips} clips (processes {self.processes} x batch {self.batch} x accumulation "
            f"{self.accumulation}), {self.step} done",
        ]
        if self.seconds_per_step is not None:
            left = (self.steps - self.step) * self.seconds_per_step
            lines.append(f"time:    {self.seconds_per_step:.2f} s a step as measured, {_duration(left)} to go")
        if self.peak_memory is not None:
            lines.append(f"         {_size(self.peak_memory)} at the peak of the measured steps")
        if self.gpu is not None and memory.total > self.gpu:
            lines.append(f"         this GPU has {_size(self.gpu)}: too little. Lighter: {self.lighter}")
        return "\n".join(lines)


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def _size(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
