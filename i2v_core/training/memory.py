"""Memory of a training step, predicted at full size without weights, data or a GPU.

The step is really run, on tensors that have shapes but no numbers, and every byte is counted while it lives. Not
counted: workspaces of a GPU's libraries, fragmentation of its allocator, and what the program takes before training.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Optimizer = Literal["adamw", "adamw8bit"]

FLOAT32 = 4  # bytes
STATES: dict[Optimizer, int] = {"adamw": 2 * FLOAT32, "adamw8bit": 2}  # bytes for each trained weight
# AdamW takes the roots of all its second moments at once on a GPU; the 8-bit one goes weight by weight.
WHILE_UPDATING: dict[Optimizer, int] = {"adamw": FLOAT32, "adamw8bit": 0}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make while it is entered, on any device, and their peak.

    Exact and the same in every run, but without what kernels use inside. What was there before does not count.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._note((args, kwargs), new=False)
        result = function(*args, **(kwargs or {}))
        self._note(result, new=True)
        return result

    def _note(self, tensors: Any, new: bool) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage(), new)

    def _count(self, storage: torch.UntypedStorage, new: bool) -> None:
        key, size = storage._cdata, storage.nbytes() if new else 0
        if key in self.known:
            return
        self.known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one process by what holds them.

    Attributes:
        weights: of all networks, trained or not.
        gradients: of the trained ones, in full at the end of the backward pass.
        optimizer: its states. average: the moving average of the trained weights.
        step: peak of what forward and backward pass make, gradients included.
        update: what the optimizer's step makes beside the gradients.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    step: int
    update: int

    @property
    def peak(self) -> int:
        """The most at one time: in the backward pass or in the optimizer's step."""
        return self.weights + self.optimizer + self.average + max(self.step, self.gradients + self.update)


MakeStep = Callable[[], tuple[nn.Module, Callable[[], Tensor]]]


def predict_memory(
    make: MakeStep,
    *,
    optimizer: Optimizer = "adamw",
    average: bool = True,
    mixed_precision: Literal["no", "bf16"] = "no",
) -> TrainingMemory:
    """Predict the memory of a training step.

    Args:
        make: builds the networks, with `requires_grad` of what is trained, and a function that gives the scalar loss of
            one batch. It runs where tensors have no numbers, so nothing in it may depend on a value.
        optimizer: "adamw" in single precision, or "adamw8bit".
        average: whether a moving average of the trained weights is kept.
        mixed_precision: of the forward pass, as `torch.autocast` does it.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        networks, loss = make()
        step = count_step(loss, mixed_precision=mixed_precision)
    parameters = list(networks.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    number = sum(parameter.numel() for parameter in trained)
    return TrainingMemory(
        weights=sum(parameter.nbytes for parameter in parameters),
        gradients=sum(parameter.nbytes for parameter in trained),
        optimizer=number * STATES[optimizer],
        average=number * FLOAT32 if average else 0,
        step=step,
        update=number * WHILE_UPDATING[optimizer],
    )


def count_step(loss: Callable[[], Tensor], *, mixed_precision: Literal["no", "bf16"] = "no") -> int:
    """Largest number of bytes that forward and backward pass hold at one time, gradients included, weights not."""
    with LiveBytes() as count:
        # The tensors without numbers are the CPU's, whose rules of precision are a GPU's but for rare operations.
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed_precision == "bf16"):
            value = loss()
        value.backward()
    return count.peak
