"""Peak memory of training on real bases: predicted at full size, and the prediction checked in small.

Usage: `python3 dev.py bench`, or by itself with `--frames 16 --height 256 --width 256`; `--only TRIP` for some rows.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _measure import grown_by, growth
from _rows import Row as Printed
from _rows import memory_row, print_rows

from i2v_core.conditions import Conditions
from i2v_core.denoiser import Denoiser
from i2v_core.methods import METHODS
from i2v_core.methods.method import is_temporal
from i2v_core.model.look_back import LOOK_BACK_PRESETS, LookBack, LookBackConfig, find_sites
from i2v_core.model.temporal_noise_fusion import TemporalNoiseFusion, TemporalNoiseFusionConfig
from i2v_core.model.video_unet import VideoEncoder, VideoUNet, VideoUNetConfig
from i2v_core.presets import PRESETS
from i2v_core.training.memory import MakeStep, predict_memory

STABLE_DIFFUSION = VideoUNetConfig(
    num_heads=8, context_dim=768, temporal_convolution=False, temporal_attention=False, init_attention=False
)
MODELSCOPE = VideoUNetConfig()
GB, LIMIT = 1e9, 12.0


@dataclass(frozen=True)
class Row:
    """One line of the table: a method on a base, and how it is trained."""

    name: str
    make: Callable[..., MakeStep]
    checkpointing: bool = True
    mixed_precision: Any = "no"
    optimizer: Any = "adamw"


def training_step(
    unet_config: VideoUNetConfig, preset: str, parts: Callable[[Any], dict[str, nn.Module]], trained_along: Any,
    frames: int, h: int, w: int, checkpointing: bool,
) -> MakeStep:  # fmt: skip
    """A step of a method whose networks `parts` makes beside the base, on latents of this size."""

    def make() -> tuple[nn.Module, Callable[[], Tensor]]:
        unet = VideoUNet(unet_config)
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(trained_along(name))
        networks = parts(unet)
        modules = nn.ModuleDict({"unet": unet, **networks}).train()
        for module in modules.modules():
            if isinstance(module, VideoEncoder):
                module.gradient_checkpointing = checkpointing
        fusion = networks.pop("temporal_noise_fusion", None)
        methods = (METHODS[kind].of(module) for kind, module in networks.items())
        denoiser = Denoiser.of(unet, PRESETS[preset], *methods)
        # Where TRIP's image is a frame of the clip; its fusion is called by itself, because the denoiser asks the
        # numbers of what it passes there, and here are none.
        clip = torch.randn(1, 4, frames + (fusion is not None), h, w)
        given = torch.randn(1, 4, 1, h, w) if "look_back" in networks else None
        text, image = torch.randn(1, 77, unet_config.context_dim), torch.randn(1, 3, 8 * h, 8 * w)
        conditions = Conditions(text=text, image_latent=given, image=image)
        times = torch.full((1,), 500.0)

        def loss() -> Tensor:
            answer = denoiser.predict(clip, times, conditions)
            if fusion is not None:
                answer = fusion(answer[:, :, 1:], clip[:, :, 1:], times)
            return answer.float().square().mean()

        return modules, loss

    return make


def look_back(preset: str, frames: int, h: int, w: int, checkpointing: bool) -> MakeStep:
    return training_step(
        STABLE_DIFFUSION, "stable_diffusion_1_5",
        lambda _: {"look_back": LookBack(with_sites(LOOK_BACK_PRESETS[preset], STABLE_DIFFUSION))},
        lambda _: False, frames, h, w, checkpointing,
    )  # fmt: skip


def with_sites(config: LookBackConfig, unet: VideoUNetConfig) -> LookBackConfig:
    shape = unet.model_channels, unet.channel_mult, unet.num_res_blocks
    return replace(config, sites=find_sites(config.placement, *shape))


def trip(base: bool, frames: int, h: int, w: int, checkpointing: bool) -> MakeStep:
    return training_step(
        MODELSCOPE, "modelscope",
        lambda _: {"temporal_noise_fusion": TemporalNoiseFusion(TemporalNoiseFusionConfig())},
        lambda name: base and is_temporal(name), frames, h, w, checkpointing,
    )  # fmt: skip


def rows(options: argparse.Namespace) -> Iterator[Row]:
    def sized(make: Callable[..., MakeStep], *first: Any) -> Callable[..., MakeStep]:
        return lambda checkpointing: make(
            *first, options.frames, options.height // 8, options.width // 8, checkpointing
        )

    compact = sized(look_back, "compact")
    yield Row("look-back compact, SD 1.5", compact)
    yield Row("look-back compact, SD 1.5, no checkpointing", compact, checkpointing=False)
    yield Row("look-back compact, SD 1.5, bf16, 8-bit AdamW", compact, True, "bf16", "adamw8bit")
    yield Row("look-back paper, SD 1.5", sized(look_back, "paper"))
    yield Row("TRIP, fusion alone, ModelScope", sized(trip, False))
    yield Row("TRIP, with temporal layers, ModelScope", sized(trip, True))


def predict(options: argparse.Namespace) -> None:
    """Print the table of full-size trainings."""
    print(f"{options.frames} frames of {options.width} x {options.height}, batch 1")
    print_rows(predicted(options))


def predicted(options: argparse.Namespace) -> Iterator[Printed]:
    for row in rows(options):
        if options.only not in row.name:
            continue
        found = predict_memory(
            row.make(row.checkpointing), optimizer=row.optimizer, mixed_precision=row.mixed_precision
        )
        for part in ("weights", "gradients", "optimizer", "average"):
            yield memory_row(row.name, getattr(found, part), measured=part)
        yield memory_row(row.name, found.step - found.gradients, measured="activations")
        yield memory_row(row.name, found.peak, measured="peak")
        if row.name == "look-back compact, SD 1.5" and found.peak / GB > LIMIT:
            raise SystemExit(f"look-back compact should be predicted below {LIMIT:g} GB")


SMALL = replace(STABLE_DIFFUSION, model_channels=64)
CASES = {
    name: lambda checkpointing=checkpointing: training_step(
        SMALL, "stable_diffusion_1_5",
        lambda _: {"look_back": LookBack(with_sites(LOOK_BACK_PRESETS["compact"], SMALL))},
        lambda _: False, 8, 32, 32, checkpointing,
    )
    for name, checkpointing in (("checkpointing", True), ("no checkpointing", False))
}  # fmt: skip


def grow(name: str) -> None:
    """Take one small step for real, and print by how many bytes this process grew."""
    torch.set_num_threads(1)
    networks, loss = CASES[name]()()

    def step() -> None:
        loss().backward()
        networks.zero_grad()  # or the second step would begin with the gradients of the first, and not grow by them

    print(grown_by(step))


def check() -> None:
    """Compare the prediction with real steps, each in a process of its own."""
    print("\nGrowth of a real process in a forward and backward pass against the prediction, on the CPU, small base")
    print_rows(
        memory_row(name, growth(__file__, name), predict_memory(make()).step, "the prediction", "growth of the process")
        for name, make in CASES.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("frames", 16), ("height", 256), ("width", 256)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--grow", choices=CASES, help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args()
    if options.grow:
        grow(options.grow)
        return
    predict(options)
    check()


if __name__ == "__main__":
    main()
