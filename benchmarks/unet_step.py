"""One step of our video U-Net against diffusers' `UNet3DConditionModel` on the same weights, small ModelScope shape.

Prints the ratio of times (ours / theirs, median of the runs) with its spread, both measured in turn in one process, and
the largest difference of the outputs. Usage: `python3 dev.py bench --runs 5 --threads 2`.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from diffusers import UNet3DConditionModel

from i2v_core import load_checkpoint


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    theirs = UNet3DConditionModel(
        block_out_channels=(64, 128, 256, 256), attention_head_dim=64, cross_attention_dim=1024
    ).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = load_checkpoint(folder).unet

    x, text, t = torch.randn(2, 4, 8, 16, 16), torch.randn(2, 77, 1024), torch.full((2,), 500.0)
    with torch.inference_mode():
        difference = (ours(x, t, text) - theirs(x, t, text).sample).abs().max().item()
        ratios = []
        for _ in range(options.runs):
            mine, reference = seconds(lambda: ours(x, t, text)), seconds(lambda: theirs(x, t, text))
            ratios.append(mine / reference)
            print(f"ours {mine:.2f} s, diffusers {reference:.2f} s, ratio {ratios[-1]:.2f}")
    print(f"largest difference {difference:.1e}")
    print(f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
