"""State of a run from step to step: weights, their average, the optimizer's moments, and its position."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .checkpoint_files import Contents, Layout, read_numbers, read_tensors
from .log import Place, count

# What an optimizer keeps of each parameter, which it makes at the first gradient.
ADAMW = ({"step", "exp_avg", "exp_avg_sq"},)
SMALL = {"step", "state1", "state2"}  # weights of few numbers keep states of 32 bits
EIGHT_BIT = (SMALL, SMALL | {"qmap1", "qmap2", "absmax1", "absmax2"})
BLOCKS = (256, 2048)  # numbers that share a scale, by version of bitsandbytes


class Average:
    """The exponential moving average of parameters, which warms up: `min(decay, (1 + n) / (10 + n))` after n steps."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._parameters = list(parameters)
        # Of the trained weights alone: an AveragedModel would hold a frozen base twice, and cannot copy sharded ones.
        self.tensors = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        share = min(self.decay, (1 + self.steps) / (10 + self.steps))
        get_ema_multi_avg_fn(share)(self.tensors, [parameter.detach() for parameter in self._parameters], self.steps)
        self.steps += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the averages stand in for the parameters, for a preview."""
        kept = [parameter.detach().clone() for parameter in self._parameters]
        _copy(self.tensors, self._parameters)
        try:
            yield
        finally:
            _copy(kept, self._parameters)


@dataclass(frozen=True)
class RunState:
    """Everything of a run that changes with its steps.

    Random states are not among it: what is drawn depends on the seed and the clips' numbers alone (`draws`). Neither
    are learning rates, which depend on the step.

    Attributes:
        trained: the trained weights by name, whole or sharded.
        optimizer: of these weights; AdamW, or bitsandbytes' with states of 8 bits.
        scaler: of the gradients, in float16 on a GPU.
    """

    trained: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    average: Average | None
    place: Place
    scaler: Any = None

    def contents(self, *, keep: bool = True) -> Contents:
        """For a checkpoint; of many processes all have to ask, and those that write nothing need not `keep` it."""
        parts: dict[str, Mapping[str, Tensor]] = {"trained": self.trained, "optimizer": self._moments()}
        if self.average is not None:
            parts["average"] = dict(zip(self.trained, self.average.tensors, strict=True))
        tensors = {part: _gathered(named, keep) for part, named in parts.items()}
        numbers: dict[str, Any] = {"place": self.place.numbers()}
        if self.average is not None:
            numbers["average_steps"] = self.average.steps
        if self.scaler is not None:
            state = self.scaler.state_dict()
            numbers["scaler"] = {"scale": state["scale"], "growth_tracker": state["_growth_tracker"]}
        return Contents(numbers, tensors)

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint; ValueError in one sentence if it is none of this run's configuration."""
        numbers = read_numbers(folder)
        try:
            place = Place.of(numbers.get("place"))
            steps = None if self.average is None else _average_steps(numbers.get("average_steps"))
            scaler = None if self.scaler is None else _scaler(numbers.get("scaler"))
        except ValueError as error:
            raise ValueError(f"'{folder}' is no checkpoint from which this training can go on: {error}") from error
        exact = {name: [_layout(parameter)] for name, parameter in self.trained.items()}
        for name, tensor in read_tensors(folder / "trained.safetensors", exact):
            _copy([tensor], [self.trained[name]])
        if self.average is not None and steps is not None:
            averages = dict(zip(self.trained, self.average.tensors, strict=True))
            for name, tensor in read_tensors(folder / "average.safetensors", exact):
                _copy([tensor], [averages[name]])
            self.average.steps = steps
        self._restore_moments(folder)
        if scaler is not None:
            self.scaler.load_state_dict({**self.scaler.state_dict(), **scaler})
        vars(self.place).update(vars(place))

    def _moments(self) -> dict[str, Tensor]:
        """The optimizer's states as "state/name"; weights that no gradient has reached yet have none."""
        return {
            f"{state}/{name}": torch.as_tensor(value)
            for name, parameter in self.trained.items()
            for state, value in self.optimizer.state.get(parameter, {}).items()
        }

    def _restore_moments(self, folder: Path) -> None:
        eight_bit = not isinstance(self.optimizer, torch.optim.AdamW)
        layouts = {
            f"{state}/{name}": choices
            for name, parameter in self.trained.items()
            for state, choices in _moment_layouts(parameter, eight_bit).items()
        }
        states = dict[str, dict[str, Any]]()
        for key, tensor in read_tensors(folder / "optimizer.safetensors", layouts, whole=False):
            state, _, name = key.partition("/")
            states.setdefault(name, {})[state] = _restored(self.trained[name], state, tensor, eight_bit)
        for name, found in states.items():
            if found.keys() not in (EIGHT_BIT if eight_bit else ADAMW):
                raise ValueError(f"'{folder}' was written by another configuration: the moments of '{name}' differ")
        order = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        numbers = {id(parameter): number for number, parameter in enumerate(order)}
        numbered = {numbers[id(self.trained[name])]: found for name, found in states.items()}
        self.optimizer.load_state_dict({"state": numbered, "param_groups": self.optimizer.state_dict()["param_groups"]})


def _moment_layouts(parameter: nn.Parameter, eight_bit: bool) -> Mapping[str, Collection[Layout]]:
    shape, dtype = _layout(parameter)
    if not eight_bit:
        return {"step": [((), torch.float32)], "exp_avg": [(shape, dtype)], "exp_avg_sq": [(shape, dtype)]}
    states: Collection[Layout] = [(shape, torch.uint8), (shape, torch.float32)]
    scales: Collection[Layout] = [((math.ceil(parameter.numel() / block),), torch.float32) for block in BLOCKS]
    table: Collection[Layout] = [((256,), torch.float32)]
    numbered = {"state": states, "qmap": table, "absmax": scales}
    return {"step": [((), torch.int64)], **{f"{name}{i}": value for name, value in numbered.items() for i in (1, 2)}}


def _restored(parameter: nn.Parameter, state: str, tensor: Tensor, eight_bit: bool) -> Any:
    """A state as the optimizer had it: a number, or a tensor that lies as the parameter does."""
    if state == "step":
        return int(tensor) if eight_bit else tensor
    if tensor.shape != parameter.shape:
        return tensor
    moved = torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False)
    _copy([tensor], [moved])
    return moved


def _average_steps(steps: Any) -> int:
    if steps is None:
        raise ValueError("it holds no moving average; train.ema.decay = 0 goes on without")
    return count(steps, "average_steps")


def _scaler(state: Any) -> dict[str, Any]:
    """State of a gradient scaler; one that had no part in the training yet begins anew."""
    if state is None:
        return {}
    scale = state.get("scale") if isinstance(state, dict) else None
    if not isinstance(scale, float) or not 0 < scale < math.inf:
        raise ValueError("the scale of the gradients has to be a number above 0")
    return {"scale": scale, "_growth_tracker": count(state.get("growth_tracker"), "growth_tracker")}


def whole(tensor: Tensor) -> Tensor:
    """A tensor's values on the CPU, gathered if it is spread over processes."""
    values: Tensor = cast(Any, tensor).full_tensor() if is_sharded(tensor) else tensor
    return values.detach().cpu()


def is_sharded(tensor: Tensor) -> bool:
    """This process holds a shard of the tensor only; `torch.distributed.tensor` takes long to import."""
    return hasattr(tensor, "full_tensor")


def _gathered(tensors: Mapping[str, Tensor], keep: bool) -> Mapping[str, Tensor]:
    found = ((name, whole(tensor)) for name, tensor in tensors.items() if keep or is_sharded(tensor))
    return {name: tensor for name, tensor in found if keep}


def _layout(tensor: Tensor) -> Layout:
    return tuple(tensor.shape), tensor.dtype


@torch.no_grad()
def _copy(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(_spread_like(target, source) if is_sharded(target) and not is_sharded(source) else source)


def _spread_like(target: Any, source: Tensor) -> Tensor:
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(source.to(target.device), target.device_mesh, target.placements)
