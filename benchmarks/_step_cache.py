"""What step caching costs in quality: the demo model on photographs that training never saw, against itself uncached.

Every clip asks for a camera move, every move equally often, with the same noise under every setting. Prints the share
of the network's calls that left the deep blocks out, PSNR (dB) to the uncached clips, and in how many of the clips the
measured move is the one asked for (chance 1/7).
Usage: `python benchmarks/_step_cache.py --clips 14 --bounds 0.1 0.2 0.4`.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _rows import Row, print_rows
from _unseen import generate, moves_followed, unseen_clips

from i2v_core import load_checkpoint
from i2v_core.metrics.pixels import psnr
from i2v_core.model.step_cache import StepCache, StepCacheConfig
from i2v_core.model.video_unet import VideoUNet

ROOT = Path(__file__).resolve().parents[1]


class Cached(nn.Module):
    """A network with a cache; runs begin anew at their first time step, and branches are told apart by their texts."""

    def __init__(self, network: VideoUNet, cache: StepCache) -> None:
        super().__init__()
        self.network, self.config, self.cache = network, network.config, cache

    def forward(self, x: Tensor, timesteps: Tensor, text: Tensor, **further: Any) -> Tensor:
        return self.network(x, timesteps, text, reuse=self.cache.branch(text.sum().item()), **further)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=14)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--outer", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--bounds", type=float, nargs="+", default=[0.1, 0.2, 0.4])
    options = parser.parse_args()
    checkpoint = load_checkpoint(ROOT / "demo" / "i2v_demo.safetensors")
    items = unseen_clips(options.clips)
    reference, first, rows = None, 0.0, []
    settings = [StepCacheConfig(0.0), *(StepCacheConfig(b, o) for o in options.outer for b in options.bounds)]
    for config in settings:
        network = Cached(checkpoint.unet, StepCache(config))
        started = time.process_time()
        clips = generate(checkpoint, network, items, options.steps)
        spent = time.process_time() - started
        reference, first = (clips, spent) if reference is None else (reference, first)
        followed, cache = moves_followed(clips, items), network.cache
        case = f"{config.outer} outer blocks, bound {config.bound:g}" if config.bound else "uncached"
        rows += [
            Row(case, "time of the processor", spent, "s", spent / first, "uncached"),
            Row(case, "deep blocks left out", 100 * cache.reused / (cache.reused + cache.computed), "%"),
            Row(case, "prompt followed", sum(followed), f"of {len(items)}"),
        ]
        if config.bound:
            near = psnr(clips.transpose(1, 2), reference.transpose(1, 2)).mean().item()
            rows.append(Row(case, "PSNR to uncached", near, "dB"))
    print_rows(rows)


if __name__ == "__main__":
    main()
