"""Time and memory of a whole generation over the number of frames, from a picture to pixels (look-back, Figure 6).

A base with an adapter of look-back at once and in pieces, and a base whose layers over time attend to all frames; each
length against the shortest one. By default the demo; on a GPU `--checkpoint`, `--adapter`, `--size` take real ones,
such as Stable Diffusion 1.5 at 256. Memory is what the tensors of a generation hold at most beside the weights.
Usage: `python3 dev.py bench --runs 3`, or by itself with `--frames 8 16 32 48 --steps 2`.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _host import ROOT
from _measure import above_weights, in_turn
from _options import benchmark_options, read_options
from _rows import Row, memory_row, print_rows, time_row

from i2v_core import generate, load_checkpoint
from i2v_core.__main__ import DEMO
from i2v_core.denoiser import Denoiser
from i2v_core.generate import GenerateConfig
from i2v_core.video import read_picture
from i2v_core.weights import Checkpoint, load_adapter

IMAGE_MODEL = ROOT / "demo" / "i2v_demo_image.safetensors"
LOOK_BACK = ROOT / "demo" / "adapters" / "look_back_demo.safetensors"
PICTURE = ROOT / "demo" / "images" / "chelsea.jpg"


def run(checkpoint: Checkpoint, denoiser: Denoiser, config: GenerateConfig) -> None:
    """One clip to pixels, which are dropped."""
    generate.animate(checkpoint, read_picture(PICTURE), "pan left", config=config, denoiser=denoiser)


def main() -> None:
    parser = benchmark_options(__doc__, runs=3)
    parser.add_argument("--checkpoint", default=IMAGE_MODEL, help="base of the adapter")
    parser.add_argument("--adapter", default=LOOK_BACK, help="of look-back")
    parser.add_argument("--video", default=DEMO, help="base with layers over time, to compare with")
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--piece", type=int, default=8, help="frames of a piece")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--size", type=int, help="of both sides; default: the checkpoint's")
    options = read_options(parser)
    image_base = load_checkpoint(options.checkpoint, device=options.device)
    video_base = load_checkpoint(options.video, device=options.device)
    adapter = load_adapter(options.adapter, device=options.device)
    look_back = Denoiser.adapted(image_base.unet, image_base.preset, [adapter])
    video = Denoiser.of(video_base.unet, video_base.preset)
    print_rows(_rows(options, (image_base, look_back), (video_base, video)))


def _rows(options: argparse.Namespace, adapted: tuple[Any, ...], attending: tuple[Any, ...]) -> Iterator[Row]:
    """Each length of each way, against the shortest one of the same way."""
    first: dict[str, tuple[list[float], float]] = {}
    for frames in options.frames:
        size = {"height": options.size, "width": options.size, "steps": options.steps}
        runs: dict[str, Callable[[], None]] = {
            "look-back": partial(run, *adapted, GenerateConfig(frames, **size)),
            f"look-back in pieces of {options.piece}": partial(
                run, *adapted, GenerateConfig(frames, **size, frames_at_once=options.piece)
            ),
            "layers over time": partial(run, *attending, GenerateConfig(frames, **size)),
        }
        held = [above_weights(each, options.device) for each in runs.values()]
        taken = in_turn(list(runs.values()), options.runs)
        for way, times, memory in zip(runs, taken, held, strict=True):
            case, (shortest, least) = f"{way}, {frames} frames", first.setdefault(way, (times, memory))
            yield time_row(case, times, shortest, f"{options.frames[0]} frames")
            yield memory_row(case, memory, least, f"{options.frames[0]} frames")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
