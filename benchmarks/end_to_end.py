"""From a picture to an mp4 through the library, as the command line goes: each stage's share of time, and memory.

The demo model; and DynamiCrafter 1024 with seeded random weights and a guidance of three conditions in half precision:
in full where there is a CUDA device, otherwise tiny, which only shows that it runs. A run is all stages one after the
other, so that a share is measured within one run; the first run is counted and not timed. Memory is what CUDA had
allocated at most, else the tensors that a stage made, and the largest size of the process.
Usage: `python3 dev.py bench --runs 3`, or by itself with `--models demo`.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _host import ROOT
from _measure import above_weights, in_turn, process_peak
from _options import benchmark_options, read_options
from _peers import seeded_weights
from _rows import MIB, memory_row, print_rows, time_row

from i2v_core import generate, load_checkpoint
from i2v_core.__main__ import DEMO
from i2v_core.generate import Animator, GenerateConfig
from i2v_core.model.autoencoder import AutoencoderConfig
from i2v_core.model.image_projection import ImageProjection, ImageProjectionConfig
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.presets import PRESETS
from i2v_core.video import clip_to_frames, read_picture, write_video
from i2v_core.weights import Checkpoint
from i2v_core.weights.companions.image import ClipImageConfig, ClipImageEncoder, build_image_tower
from i2v_core.weights.companions.text import ClipTextConfig, ClipTextEncoder, build_text_tower
from i2v_core.weights.contents import build_autoencoder

STAGES = ("load", "encode", "sample", "decode", "write")


@dataclass(frozen=True)
class Sizes:
    """The networks of a model of DynamiCrafter's kind."""

    unet: VideoUNetConfig
    autoencoder: AutoencoderConfig
    projection: ImageProjectionConfig
    text: ClipTextConfig
    image: ClipImageConfig


PUBLIC = Sizes(
    VideoUNetConfig(in_channels=8, image_gate="fixed", fps_embedding=True),
    AutoencoderConfig(),
    ImageProjectionConfig(),
    ClipTextConfig(1024, 23, 49408, 77, "gelu", "zero"),
    ClipImageConfig(1280, 32, 5120, 224, 14),
)
TINY = Sizes(
    VideoUNetConfig(in_channels=8, model_channels=32, context_dim=64, image_gate="fixed", fps_embedding=True),
    AutoencoderConfig(channels=32, channel_mult=(1, 1, 1, 1), num_res_blocks=1),
    ImageProjectionConfig(features=64, depth=1, heads=1, image_features=64, output_features=64),
    ClipTextConfig(64, 2, 49408, 77, "gelu", "zero"),
    ClipImageConfig(64, 2, 128, 56, 14),
)


def seeded(network: Any) -> Any:
    """The network with random weights in which sizes stay as they are, ready to run."""
    network.load_state_dict(seeded_weights(network))
    return network.eval().requires_grad_(False)


def half_inside(unet: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Let a U-Net of this dtype take states in single precision, which is the sampler's."""

    def cast(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (given[0].to(dtype), *given[1:]), named

    unet.register_forward_pre_hook(cast, with_kwargs=True)
    return unet


def dynamicrafter(sizes: Sizes, device: str, dtype: torch.dtype) -> Checkpoint:
    """A checkpoint of DynamiCrafter 1024's kind with seeded random weights."""
    factory: dict[str, Any] = {"device": device, "dtype": dtype}
    return Checkpoint(
        unet=half_inside(seeded(VideoUNet(sizes.unet, **factory)), dtype),  # type: ignore[arg-type]
        image_projection=seeded(ImageProjection(sizes.projection, **factory)),
        autoencoder=seeded(build_autoencoder(sizes.autoencoder, **factory)),
        text_encoder=ClipTextEncoder(sizes.text, seeded(build_text_tower(sizes.text, **factory))),
        image_encoder=ClipImageEncoder(sizes.image, seeded(build_image_tower(sizes.image, **factory))),
        preset=PRESETS["dynamicrafter_1024"],
        dialect="i2v",
        metadata={},
    )


class Generation:
    """One picture's way to a file, stage by stage; each goes on with what those before it have left here.

    Args:
        make: loads or builds the networks.
        dtype: of the networks.
        path: of the video.
    """

    def __init__(
        self, make: Callable[[], Checkpoint], config: GenerateConfig, prompt: str, dtype: torch.dtype, path: Path
    ) -> None:
        self.make, self.config, self.prompt, self.dtype, self.path = make, config, prompt, dtype, path
        self.image = read_picture(str(ROOT / "demo" / "images" / "chelsea.jpg"))
        self.animator: Any = None
        self.conditions: Any = None
        self.latents: Any = None
        self.clip: Any = None

    def load(self) -> None:
        self.animator = self.conditions = self.latents = self.clip = None  # of the run before
        self.animator = Animator.of(self.make())

    def encode(self) -> None:
        picture = self.animator.fit(self.image, self.config).to(self.dtype)
        given = self.animator.autoencoder.encode(picture)[:, :, None]
        guidance, rate = self.config.sampling(self.animator.preset).guidance, self.config.rate
        self.conditions = self.animator.branches(guidance, [self.prompt], [""], given, picture, rate)

    def sample(self) -> None:
        conditional, unconditional, null = self.conditions
        image, preset = conditional.image_latent, self.animator.preset
        shape = (1, image.shape[1], self.config.frames or preset.frames, *image.shape[-2:])
        self.latents = generate.sample(
            self.animator.denoiser, conditional, unconditional, shape, self.config.sampling(preset),
            seeds=[self.config.seed], null=null,
        )  # fmt: skip

    def decode(self) -> None:
        self.clip = self.animator.autoencoder.decode_clip(self.latents.to(self.dtype))[0].clamp(-1, 1)

    def write(self) -> None:
        write_video(self.path, clip_to_frames(self.clip.float()).cpu(), 8)

    def stages(self) -> list[Callable[[], None]]:
        return [getattr(self, name) for name in STAGES]


def measure(name: str, generation: Generation, runs: int, device: str) -> None:
    """Print the table of a model's stages."""
    memory = [above_weights(stage, device) for stage in generation.stages()]
    times = in_turn(generation.stages(), runs)
    whole = [sum(run) for run in zip(*times, strict=True)]
    shape: Tensor = generation.clip
    print(f"\n{name}, {shape.shape[1]} frames of {shape.shape[3]} x {shape.shape[2]}, {generation.dtype}, {device}")
    rows = []
    for stage, its, held in zip(STAGES, times, memory, strict=True):
        rows += [
            time_row(stage, its, whole, "the whole"),
            memory_row(stage, held, measured="memory above what was there"),
        ]
    print_rows(rows)
    seconds = ", ".join(f"{run:.1f}" for run in whole)
    kind, peak = "process", process_peak()
    if device == "cuda":
        kind, peak = "allocated", torch.cuda.max_memory_allocated()
    print(f"whole: {seconds} s; peak {peak / MIB:.0f} MiB ({kind}); {generation.path.stat().st_size / 1e3:.0f} kB")


@torch.inference_mode()
def main() -> None:
    gpu = torch.cuda.is_available()
    parser = benchmark_options(__doc__)
    parser.add_argument("--steps", type=int, help="default: 20 of the demo, 30 of DynamiCrafter, 2 of a tiny one")
    parser.add_argument("--models", nargs="+", choices=("demo", "dynamicrafter", "tiny"),
                        default=["demo", "dynamicrafter" if gpu else "tiny"])  # fmt: skip
    options = read_options(parser)
    device, half = options.device, torch.float16
    three = {"text_scale": 7.5, "image_scale": 1.5, "guidance_order": "image_first"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        for model in options.models:
            if model == "demo":
                config = GenerateConfig(steps=options.steps or 20)
                generation = Generation(
                    lambda: load_checkpoint(DEMO, device=device), config, "pan left", torch.float32, path
                )
            else:
                full = model == "dynamicrafter"
                size = (16, 576, 1024) if full else (2, 32, 32)
                config = GenerateConfig(*size, steps=options.steps or (30 if full else 2), **three)  # type: ignore[arg-type]
                sizes = PUBLIC if full else TINY
                generation = Generation(
                    lambda sizes=sizes: dynamicrafter(sizes, device, half),
                    config,
                    "a cat",
                    half,
                    path,  # type: ignore[misc]
                )
            measure(model, generation, options.runs, device)


if __name__ == "__main__":
    main()
