"""What benchmarks measure with: time, peak memory of tensors, and the rates of the machine."""

import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make while it is entered, on any device, `meta` among them.

    Exact and the same in every run, but without what kernels use inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.held:
            self.held[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self.held.pop(key)


def peak_memory(function: Callable[[], object]) -> int:
    """Largest number of bytes that the tensors made by a function held at one time."""
    with PeakMemory() as memory:
        function()
    return memory.peak


def seconds(function: Callable[[], object], runs: int = 3) -> float:
    """Shortest time of some runs after a first one: of the clock with a GPU, else of the processor, others aside."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    function()
    times = []
    for _ in range(runs):
        _wait()
        started = clock()
        function()
        _wait()
        times.append(clock() - started)
    return min(times)


def matrix_rate(device: str, dtype: torch.dtype, runs: int = 3) -> float:
    """Operations per second of a large matrix product."""
    side = 8192 if device == "cuda" else 1024
    a = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / seconds(lambda: a @ a, runs)


def read_rate(device: str, runs: int = 3) -> float:
    """Bytes per second that reading a large tensor reaches."""
    a = torch.randn(2**28 if device == "cuda" else 2**24, device=device)
    return a.numel() * a.element_size() / seconds(a.sum, runs)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
