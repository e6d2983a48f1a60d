"""One step of DynamiCrafter's U-Net in the shapes of 512 x 320 and 1024 x 576, 16 frames, one guidance branch.

The first step of a run, which finds the keys and values of text and image; a later one, which has them; and (with
`--compile`, and always on CUDA) a later one with every block compiled. Prints the ratios of times with their spread,
called in turn in one process, peak memory above the weights and the share of the floor; outputs that differ beyond the
dtype's tolerance fail. On a CPU by default narrow and at a quarter of the sides, which only shows the ratios.
Usage: `python3 dev.py bench --runs 5`; in full: `python benchmarks/dynamicrafter_step.py --width 320 --divide 1`.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _floor import floor_of
from _measure import above_weights, in_turn, matrix_rate, read_rate
from _options import benchmark_options, read_options
from _peers import check_equal, compile_and_warm, difference, seeded_weights
from _rows import floor_row, memory_row, print_rows, time_row

from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig

FRAMES, SHAPES = 16, {"512 x 320": (40, 64), "1024 x 576": (72, 128)}
FIRST, LATER, COMPILED = "first step", "later step", "later step, compiled"


def make(width: int, h: int, w: int, device: str, dtype: torch.dtype) -> tuple[VideoUNet, dict[str, Any]]:
    """A network with seeded weights, and what it is called with."""
    config = VideoUNetConfig(in_channels=8, model_channels=width, image_gate="fixed", fps_embedding=True)
    unet = VideoUNet(config, device=device, dtype=dtype).eval()
    unet.load_state_dict(seeded_weights(unet))
    draw = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(device, dtype)

    inputs = {
        "x": drawn(1, 8, FRAMES, h, w),
        "timesteps": torch.tensor([500.0], device=device),
        "text": drawn(1, 77, config.context_dim),
        "image_tokens": drawn(1, FRAMES, 16, config.context_dim),
        "fps": torch.tensor([10.0], device=device),
    }
    return unet, inputs


def measure(name: str, unet: VideoUNet, inputs: dict[str, Any], options: argparse.Namespace) -> None:
    """Print the table of one shape."""
    device, dtype = options.device, inputs["x"].dtype
    known: dict[str, Any] = {}
    steps: dict[str, Callable[[], Tensor]] = {
        FIRST: partial(unet, **inputs),
        LATER: partial(unet, **inputs, known=known),
    }
    expected = steps[FIRST]()
    steps[LATER]()  # finds what later ones have
    check_equal({LATER: difference(steps[LATER](), expected)}, dtype)
    memory = {step: above_weights(run, device) for step, run in steps.items()}
    taken = dict(zip(steps, in_turn(list(steps.values()), options.runs), strict=True))
    pairs = dict.fromkeys(taken, taken[FIRST])
    floor = floor_of(unet, steps[FIRST])
    if options.compile or device == "cuda":
        # Eager steps are compiled ones from here on, so these are paired by order with those before.
        check_equal({COMPILED: difference(compile_and_warm(unet, steps[LATER]), expected)}, dtype)
        memory[COMPILED] = above_weights(steps[LATER], device)
        (taken[COMPILED],) = in_turn([steps[LATER]], options.runs)
        pairs[COMPILED] = taken[FIRST]
    least = floor.seconds(matrix_rate(device, dtype), read_rate(device))
    print(f"{name}: {FRAMES} frames, latents {inputs['x'].shape[-1]} x {inputs['x'].shape[-2]}, {dtype}, {device}")
    rows = []
    for step, its in taken.items():
        rows += [
            time_row(step, its, pairs[step], FIRST),
            memory_row(step, memory[step], memory[FIRST], FIRST),
            floor_row(step, least, its),
        ]
    print_rows(rows)


@torch.inference_mode()
def main() -> None:
    gpu = torch.cuda.is_available()
    parser = benchmark_options(__doc__, half="float16")
    parser.add_argument("--width", type=int, default=320 if gpu else 64)
    parser.add_argument("--divide", type=int, default=1 if gpu else 4, help="sides of the latents by this")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--compile", action="store_true")
    options = read_options(parser)
    for name in options.shapes:
        # Latents of a multiple of 8, as deep as the network goes.
        h, w = (max(8, side // options.divide // 8 * 8) for side in SHAPES[name])
        measure(name, *make(options.width, h, w, options.device, getattr(torch, options.dtype)), options)


if __name__ == "__main__":
    main()
