"""Peak memory of DynamiCrafter's stages: predicted at full size without computing, checked against real runs in small.

Every tensor that a forward pass allocates is counted while it lives. At full size the networks run on the meta device,
which knows shapes only; in small the same count is compared with the growth of this process. Fused attention is counted
as its output. What a GPU's libraries need beside tensors (convolution workspaces, fragmentation) is not in it.
Usage: `python3 dev.py bench`, or by itself with `--frames 16 --height 576 --width 1024`.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _floor import necessary_activation, weight_bytes
from _measure import counted, growth, process_peak
from _rows import Row, memory_row, print_rows

from i2v_core.model import autoencoder, chunking
from i2v_core.model.autoencoder import AutoencoderConfig
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.weights.contents import build_autoencoder

UNET = VideoUNetConfig(in_channels=8, image_gate="fixed", fps_embedding=True)
Stage = Callable[[], object]


def make_unet(config: VideoUNetConfig, clips: int, frames: int, h: int, w: int, **factory: Any) -> tuple[Any, Stage]:
    unet = VideoUNet(config, **factory)
    x = torch.zeros(clips, config.in_channels, frames, h, w, **factory)
    text = torch.zeros(clips, 77, config.context_dim, **factory)
    tokens = torch.zeros(clips, frames, 16, config.context_dim, **factory)
    times, fps = torch.full((clips,), 500.0, device=x.device), torch.full((clips,), 10.0, device=x.device)
    return unet, lambda: unet(x, times, text, image_tokens=tokens, fps=fps)


def make_vae(
    config: AutoencoderConfig, frames: int, height: int, width: int, **factory: Any
) -> tuple[Any, Stage, Stage]:
    vae, down = build_autoencoder(config, **factory), config.downscale
    pixels = torch.zeros(frames, 3, height, width, **factory)
    latent = torch.zeros(frames, config.latent_channels, height // down, width // down, **factory)
    return vae, lambda: vae.encode(pixels), lambda: vae.decode(latent)


def predict(options: argparse.Namespace) -> None:
    """Print a table of the full-size stages in half precision."""
    factory = {"device": "meta", "dtype": torch.float16}
    h, w = options.height // 8, options.width // 8
    rows = []
    for clips, name in ((1, "U-Net, one guidance branch after the other"), (2, "U-Net, both branches together")):
        unet, stage = make_unet(UNET, clips, options.frames, h, w, **factory)
        rows.append((name, unet, stage))
    for count, of in ((1, "one frame"), (options.frames, "all frames")):
        vae, encode, decode = make_vae(AutoencoderConfig(), count, options.height, options.width, **factory)
        rows += [(f"VAE encode, {of}", vae, encode), (f"VAE decode, {of}", vae, decode)]
    print(f"{options.frames} frames of {options.width} x {options.height}, half precision")

    def predicted() -> Iterator[Row]:
        for name, network, stage in rows:
            with counted() as count:
                stage()
            weights = weight_bytes(network)
            yield memory_row(name, weights, measured="weights")
            yield memory_row(name, count.peak)
            yield memory_row(name, weights + count.peak, measured="memory")

    print_rows(predicted())


def bound() -> None:
    """Print a step's peak over weights plus the largest necessary activation, which is to stay within 1.3."""
    print("\nOne step in half precision against weights plus largest necessary activation")
    rows = []
    for name, h, w in (("512 x 320", 40, 64), ("1024 x 576", 72, 128)):
        for clips in (1, 2):
            unet, step = make_unet(UNET, clips, 16, h, w, device="meta", dtype=torch.float16)
            weights, necessary = weight_bytes(unet), necessary_activation(unet, step)
            with counted() as count:
                step()
            case = f"{name}, {clips} branch{'es' if clips > 1 else ''}"
            rows += [
                memory_row(case, weights, measured="weights"),
                memory_row(case, necessary, measured="largest necessary activation"),
                memory_row(case, weights + count.peak, weights + necessary, "weights and necessary", "memory"),
            ]
    print_rows(rows)


SMALL = VideoUNetConfig(
    in_channels=8, model_channels=64, channel_mult=(1, 2, 4, 4), image_gate="fixed", fps_embedding=True
)
SMALL_VAE = AutoencoderConfig(channels=32)
CASES: dict[str, Callable[..., Stage]] = {
    "U-Net 32 x 32": lambda **factory: make_unet(SMALL, 1, 16, 32, 32, **factory)[1],
    "U-Net 48 x 64": lambda **factory: make_unet(SMALL, 1, 16, 48, 64, **factory)[1],
    "VAE encode 512 x 512": lambda **factory: make_vae(SMALL_VAE, 2, 512, 512, **factory)[1],
    "VAE decode 512 x 512": lambda **factory: make_vae(SMALL_VAE, 2, 512, 512, **factory)[2],
}


def grow(name: str) -> None:
    """Run one small stage for real, and print by how many bytes this process grew."""
    torch.set_num_threads(1)
    stage = CASES[name](device="cpu", dtype=torch.float32)
    before = process_peak()
    with torch.inference_mode():
        stage()
    print(process_peak() - before)


def check() -> None:
    """Compare the count with real runs, each in a process of its own."""
    print("\nGrowth of a real process against the count, single precision on the CPU")
    rows = []
    # A count on the meta device is that of a GPU, where more goes through together.
    chunking.AT_ONCE, autoencoder.PIXELS_AT_ONCE = chunking.AT_ONCE_CPU, 1
    for name, make in CASES.items():
        stage = make(device="meta", dtype=torch.float32)
        with counted() as count:
            stage()
        rows.append(memory_row(name, growth(__file__, name), count.peak, "the count", "growth of the process"))
    print_rows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=576)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--grow", choices=CASES, help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args()
    if options.grow:
        grow(options.grow)
        return
    predict(options)
    bound()
    check()


if __name__ == "__main__":
    main()
