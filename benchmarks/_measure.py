"""What benchmarks measure with: time, peak memory of tensors, and the rates of the machine."""

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
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
        # What was there before, such as weights of which views are made, does not count.
        self._note((args, kwargs), counts=False)
        made = func(*args, **(kwargs or {}))
        self._note(made, counts=True)
        return made

    def _note(self, tensors: Any, counts: bool) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._hold(tensor.untyped_storage(), counts)

    def _hold(self, storage: torch.UntypedStorage, counts: bool) -> None:
        key = storage._cdata
        if key not in self.held:
            self.held[key] = storage.nbytes() if counts else 0
            self.now += self.held[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self.held.pop(key)


class FusedAttention(TorchFunctionMode):
    """Attention on the meta device as a fused kernel allocates it: nothing but the result."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.scaled_dot_product_attention and args[0].is_meta:
            return torch.empty_like(args[0])
        return function(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[PeakMemory]:
    """Count what inference would allocate, on the meta device without computing it."""
    with torch.inference_mode(False), torch.no_grad(), PeakMemory() as count, FusedAttention():
        yield count


def peak_memory(function: Callable[[], object]) -> int:
    """Largest number of bytes that the tensors made by a function held at one time."""
    with PeakMemory() as memory:
        function()
    return memory.peak


def seconds(function: Callable[[], object], runs: int = 3) -> float:
    """Shortest time of some runs after a first one: of the clock with a GPU, else of the processor, others aside."""
    function()
    return min(_timed(function) for _ in range(runs))


@dataclass(frozen=True)
class Ratio:
    """Paired times of a function and of another, measured one after the other."""

    times: Sequence[float]
    others: Sequence[float]

    def __str__(self) -> str:
        ratios = [a / b for a, b in zip(self.times, self.others, strict=True)]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def in_turn(functions: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
    """Times of each function; every run calls all of them, so that load on the machine hits them alike."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(runs):
        for function, its in zip(functions, times, strict=True):
            its.append(_timed(function))
    return times


def _timed(function: Callable[[], object]) -> float:
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    _wait()
    started = clock()
    function()
    _wait()
    return clock() - started


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
