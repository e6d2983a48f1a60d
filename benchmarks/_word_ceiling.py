"""What the words of a motion can be worth at most to a model that sees nothing but noise and its caption.

Usage: `python benchmarks/_word_ceiling.py demo/figures/base.toml`

At the noisiest step a model can answer only with the mean of all clips that a caption may mean. The variance between
the motions' means, in latents of about unit variance, is what naming the motion saves; a wrong motion costs about twice
that. It is small while figure and background are unknown, because bright and dark ones cancel, and large once they are
named.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from i2v_core.data.figures import Figures, Scene
from i2v_core.model.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig, fit_patches
from i2v_core.training.config_file import read_config


def deviations(data: Figures, autoencoder: PatchAutoencoder, scene: Scene) -> Tensor:
    """Latents of a scene under every motion, `m c t h w`, minus their mean."""
    clips = torch.stack([2 * data.render(scene, motion) - 1 for motion in data.config.motions])
    latents = autoencoder.encode_clip(clips)
    return latents - latents.mean(0, keepdim=True)


def between(scenes: Tensor) -> float:
    """Variance between the motions' means of scenes `n m c t h w`, without the noise of so few scenes."""
    half = len(scenes) // 2
    return (scenes[:half].mean(0) * scenes[half:].mean(0)).mean().item()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--scenes", type=int, default=80)
    options = parser.parse_args()
    config = read_config(options.recipe)
    data = Figures(config.data)
    autoencoder = PatchAutoencoder(config.model.autoencoder or PatchAutoencoderConfig())
    fit_patches(autoencoder, torch.stack([data.still().clip(i).image for i in range(300)]))
    scenes = [replace(data.draw(i)[0], speed="") for i in range(options.scenes)]
    unknown = torch.stack([deviations(data, autoencoder, scene) for scene in scenes])
    print(f"picture known: {unknown.square().mean().item():.4f}")
    plain = Figures(replace(data.config, colors=data.config.colors[:1], backgrounds=("gradient",)))
    named = []
    for name in data.names[:12]:
        own = [replace(plain.draw(i)[0], figure=name, speed="") for i in range(10)]
        named.append(between(torch.stack([deviations(plain, autoencoder, scene) for scene in own])))
    print(f"figure and background named: {sum(named) / len(named):.4f}")
    print(f"nothing named: {between(unknown):.4f}")


if __name__ == "__main__":
    main()
