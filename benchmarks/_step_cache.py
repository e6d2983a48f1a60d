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

from _unseen import moves_followed, unseen_clips

from i2v_core import load_checkpoint
from i2v_core.data.moving_crops import CaptionedClip
from i2v_core.denoiser import Denoiser
from i2v_core.generate import GenerateConfig, encode_conditions
from i2v_core.metrics.pixels import psnr
from i2v_core.model.step_cache import StepCache, StepCacheConfig
from i2v_core.model.video_unet import VideoUNet
from i2v_core.sampling import sample
from i2v_core.weights import Checkpoint

ROOT = Path(__file__).resolve().parents[1]


class Cached(nn.Module):
    """A network with a cache; runs begin anew at their first time step, and branches are told apart by their texts."""

    def __init__(self, network: VideoUNet, cache: StepCache) -> None:
        super().__init__()
        self.network, self.config, self.cache = network, network.config, cache

    def forward(self, x: Tensor, timesteps: Tensor, text: Tensor, **further: Any) -> Tensor:
        return self.network(x, timesteps, text, reuse=self.cache.branch(text.sum().item()), **further)


def generate(checkpoint: Checkpoint, network: Any, items: list[CaptionedClip], steps: int) -> Tensor:
    """Clips `b c t h w` in [-1, 1], one after the other, as users make them."""
    autoencoder, text_encoder, preset = checkpoint.autoencoder, checkpoint.text_encoder, checkpoint.preset
    assert autoencoder is not None and text_encoder is not None
    denoiser, made = Denoiser.of(network, preset), []
    for i, item in enumerate(items):
        picture = item.pixels[:, 0][None]
        given = autoencoder.encode(picture)[:, :, None]
        conditions = [encode_conditions(text_encoder, [text], given, picture) for text in (item.caption, "")]
        shape = (1, given.shape[1], preset.frames, *given.shape[-2:])
        made.append(sample(denoiser, *conditions, shape, GenerateConfig(steps=steps).sampling(preset), seeds=[i]))
    return autoencoder.decode_clip(torch.cat(made)).clamp(-1, 1)


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
    reference = None
    print("| outer blocks | bound | deep blocks left out | CPU s | PSNR to uncached | prompt followed |")
    print("|---|---|---|---|---|---|")
    settings = [StepCacheConfig(0.0), *(StepCacheConfig(b, o) for o in options.outer for b in options.bounds)]
    for config in settings:
        network = Cached(checkpoint.unet, StepCache(config))
        started = time.process_time()
        clips = generate(checkpoint, network, items, options.steps)
        spent = time.process_time() - started
        reference = clips if reference is None else reference
        followed = moves_followed(clips, items)
        cache = network.cache
        left_out = cache.reused / (cache.reused + cache.computed)
        close = (
            "" if config.bound == 0 else f"{psnr(clips.transpose(1, 2), reference.transpose(1, 2)).mean().item():.1f}"
        )
        print(
            f"| {config.outer} | {config.bound:g} | {left_out:.0%} | {spent:.0f} | {close} | "
            f"{sum(followed)} of {len(items)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
