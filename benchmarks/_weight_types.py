"""What weights of fewer bits cost in quality: the demo model on photographs that training never saw, against full ones.

Weights are rounded to a type and computed with in single precision, as the host does with `--fp8_e4m3fn-unet` and the
like where the device cannot compute in that type. Same noise under every type. Prints PSNR (dB) to the clips of full
weights, and in how many clips the measured move is the one asked for (chance 1/7).
Usage: `python benchmarks/_weight_types.py --clips 14`.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _rows import Row, print_rows
from _unseen import generate, moves_followed, unseen_clips

from i2v_core import load_checkpoint
from i2v_core.__main__ import DEMO
from i2v_core.metrics.pixels import psnr

TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=14)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    items = unseen_clips(options.clips)
    rows, reference = [], None
    for dtype in TYPES:
        checkpoint = load_checkpoint(DEMO)
        for parameter in checkpoint.unet.parameters():
            parameter.copy_(parameter.to(dtype))
        clips = generate(checkpoint, checkpoint.unet, items, options.steps)
        reference = clips if reference is None else reference
        followed = moves_followed(clips, items)
        near = psnr(clips.transpose(1, 2), reference.transpose(1, 2)).mean().item()
        rows += [
            Row(str(dtype), "bytes of a weight", dtype.itemsize, "B", dtype.itemsize / 4, "torch.float32"),
            Row(str(dtype), "PSNR to full weights", near, "dB"),
            Row(str(dtype), "prompt followed", sum(followed), f"of {len(items)}"),
        ]
    print_rows(rows)


if __name__ == "__main__":
    main()
