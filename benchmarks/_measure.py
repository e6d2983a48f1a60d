"""What benchmarks measure with: time, peak memory of tensors, and the rates of the machine."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from i2v_core.training.memory import LiveBytes


class FusedAttention(TorchFunctionMode):
    """Attention on the meta device as a fused kernel allocates it: nothing but the result."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.scaled_dot_product_attention and args[0].is_meta:
            return torch.empty_like(args[0])
        return function(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[LiveBytes]:
    """Count what inference would allocate, on the meta device without computing it."""
    with torch.inference_mode(False), torch.no_grad(), LiveBytes() as count, FusedAttention():
        yield count


def peak_memory(function: Callable[[], object]) -> int:
    """Largest number of bytes that the tensors made by a function held at one time."""
    with LiveBytes() as memory:
        function()
    return memory.peak


def above_weights(step: Callable[[], object], device: str) -> int:
    """Peak bytes beside what was there before: allocated on CUDA, else counted tensor by tensor."""
    if device != "cuda":
        return peak_memory(step)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def process_peak() -> int:
    """Most memory that this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def grown_by(run: Callable[[], object]) -> int:
    """By how many bytes a run makes this process grow at most (Linux), after a first one has set up all it needs."""

    def status(key: str) -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
        return int(line.split()[1]) * 1024

    run()
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest size so far
    before = status("VmRSS:")
    run()
    return status("VmHWM:") - before


def growth(script: str, case: str) -> int:
    """The number that `script --grow case` prints: by how many bytes a real run made its process grow."""
    # Freed memory goes back at once, so that what setting up has freed is not reused unseen.
    environment = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, script, "--grow", case]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


# Of the clock with a GPU, else of the processor, which other programs disturb little.
CLOCK = time.perf_counter if torch.cuda.is_available() else time.process_time


def seconds(function: Callable[[], object], runs: int = 3, clock: Callable[[], float] = CLOCK) -> float:
    """Shortest time of some runs after a first one."""
    function()
    return min(_timed(function, clock) for _ in range(runs))


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


def in_turn(
    functions: Sequence[Callable[[], object]], runs: int, clock: Callable[[], float] = CLOCK
) -> list[list[float]]:
    """Times of each function; every run calls all of them, so that load on the machine hits them alike."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(runs):
        for function, its in zip(functions, times, strict=True):
            its.append(_timed(function, clock))
    return times


def _timed(function: Callable[[], object], clock: Callable[[], float]) -> float:
    _wait()
    started = clock()
    function()
    _wait()
    return clock() - started


def matrix_rate(device: str, dtype: torch.dtype, runs: int = 3, clock: Callable[[], float] = CLOCK) -> float:
    """Operations per second of a large matrix product."""
    side = 8192 if device == "cuda" else 1024
    a = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / seconds(lambda: a @ a, runs, clock)


def read_rate(device: str, runs: int = 3) -> float:
    """Bytes per second that reading a large tensor reaches."""
    a = torch.randn(2**28 if device == "cuda" else 2**24, device=device)
    return a.numel() * a.element_size() / seconds(a.sum, runs)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
