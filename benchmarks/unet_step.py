"""One step of our video U-Net against diffusers' `UNet3DConditionModel` on the same weights, ModelScope's layout.

Both are measured in turn in one process, on the same tensors in memory, in eager mode and (with `--compile`, and always
on CUDA) our blocks compiled. Prints the ratio of times with its spread, peak memory above the weights, the share of the
matrix rate of this machine, and the largest difference of the outputs; a difference beyond the dtype's tolerance fails.
Then the memory of the full ModelScope 256 shape, counted on the meta device. Two guidance branches are one batch.
Usage: `python3 dev.py bench --runs 5`; the full shape: `python benchmarks/unet_step.py --width 320 --size 32`, which
takes 6 GiB and many minutes on a CPU.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _floor import floor_of
from _measure import CLOCK, above_weights, counted, in_turn, matrix_rate, read_rate
from _options import benchmark_options, read_options
from _peers import check_equal, compile_and_warm, difference
from _rows import floor_row, memory_row, print_rows, time_row
from diffusers import UNet3DConditionModel

from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.weights import key_maps
from i2v_core.weights.foreign import linear_projections

Step = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """Both networks on the same weights, and what one step of either takes."""

    ours: VideoUNet
    theirs: nn.Module
    x: Tensor
    times: Tensor
    text: Tensor

    @classmethod
    def make(cls, width: int, frames: int, size: int, device: str, dtype: torch.dtype) -> "Case":
        with torch.device(device):
            theirs: Any = UNet3DConditionModel(
                block_out_channels=(width, 2 * width, 4 * width, 4 * width),
                attention_head_dim=64,
                cross_attention_dim=1024,
            )
            theirs = theirs.to(dtype).eval()
            x, text = torch.randn(2, 4, frames, size, size, dtype=dtype), torch.randn(2, 77, 1024, dtype=dtype)
            times = torch.full((2,), 500.0)
        weights = theirs.state_dict()
        layout = key_maps.diffusers_layout(weights)
        ours = VideoUNet(VideoUNetConfig(model_channels=width), device="meta", dtype=dtype).eval()
        named = {key_maps.from_diffusers(name, layout): tensor for name, tensor in weights.items()}
        ours.load_state_dict(linear_projections(named), assign=True)
        return cls(ours, theirs, x, times, text)

    def our_step(self) -> Tensor:
        return self.ours(self.x, self.times, self.text)

    def their_step(self) -> Tensor:
        return self.theirs(self.x, self.times, self.text).sample


def measure(options: argparse.Namespace) -> None:
    device, dtype = options.device, getattr(torch, options.dtype)
    clock = time.perf_counter if options.by_clock else CLOCK
    case = Case.make(options.width, options.frames, options.size, device, dtype)
    eager, theirs = case.our_step(), case.their_step()
    check_equal({"ours, diffusers": difference(eager, theirs)}, dtype)
    steps: dict[str, Step] = {"diffusers, eager": case.their_step, "ours, eager": case.our_step}
    memory = {name: above_weights(step, device) for name, step in steps.items()}
    floor = floor_of(case.ours, case.our_step)
    rate = matrix_rate(device, dtype, clock=clock)
    times = dict(zip(steps, in_turn(list(steps.values()), options.runs, clock), strict=True))
    pairs = dict.fromkeys(times, times["diffusers, eager"])
    if options.compile or device == "cuda":
        first = compile_and_warm(case.ours, case.our_step)
        check_equal({"compiled, diffusers": difference(first, theirs)}, dtype)
        memory["ours, compiled"] = above_weights(case.our_step, device)
        # Eager steps of ours are compiled ones from here on, so these are paired with new ones of diffusers.
        times["ours, compiled"], pairs["ours, compiled"] = in_turn(
            [case.our_step, case.their_step], options.runs, clock
        )
    print(f"{options.frames} frames, latents {options.size} x {options.size}, width {options.width}, {dtype}, {device}")
    print(f"matrix rate {rate / 1e9:.0f} G/s; a step needs {floor.operations / 1e9:.0f} G operations")
    least = floor.seconds(rate, read_rate(device))
    rows = []
    for name, its in times.items():
        rows += [
            time_row(name, its, pairs[name], "diffusers, eager"),
            memory_row(name, memory[name], memory["diffusers, eager"], "diffusers, eager"),
            floor_row(name, least, its),
        ]
    print_rows(rows)


def full_size_memory() -> None:
    """Peak memory above the weights of the full shape, without computing it."""
    case = Case.make(320, 16, 32, "meta", torch.float32)
    peaks = []
    for step in (case.our_step, case.their_step):
        with counted() as count:
            step()
        peaks.append(count.peak)
    ours, theirs = peaks
    print("\nModelScope 256, 16 frames, two branches, single precision, counted")
    print_rows([memory_row("ours", ours, theirs, "diffusers"), memory_row("diffusers", theirs)])


@torch.inference_mode()
def main() -> None:
    gpu = torch.cuda.is_available()
    parser = benchmark_options(__doc__, half="bfloat16")
    parser.add_argument("--width", type=int, default=320 if gpu else 64)
    parser.add_argument("--frames", type=int, default=16 if gpu else 8)
    parser.add_argument("--size", type=int, default=32 if gpu else 16)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--by-clock", action="store_true", help="not by processor time: for several threads of an "
                        "otherwise idle machine")  # fmt: skip
    options = read_options(parser)
    torch.manual_seed(0)
    full_size_memory()
    measure(options)


if __name__ == "__main__":
    main()
