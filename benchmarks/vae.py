"""Our image autoencoder against diffusers' `AutoencoderKL` and the host's own, on the same weights.

All three encode and decode the same frames in turn in one process, on the same tensors in memory, all frames together
and one by one. Prints the time
per frame, the ratios of times with their spread, peak memory above the weights and the share of the floor; outputs that
differ beyond the dtype's tolerance fail. Needs ComfyUI (COMFYUI_PATH, or the copy of dev.py).
Usage: `python3 dev.py bench --runs 5`; Stable Diffusion's width: `python benchmarks/vae.py --channels 128`.
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _host import import_host
from _measure import above_weights, in_turn, matrix_rate
from _options import benchmark_options, read_options
from _peers import check_equal, difference, seeded_weights
from _rows import Row, floor_row, memory_row, print_rows, time_row
from torch.utils.flop_counter import FlopCounterMode

from i2v_core.model.autoencoder import AutoencoderConfig
from i2v_core.weights.contents import build_autoencoder

Step = Callable[[Tensor], Tensor]
OURS, DIFFUSERS, HOST = SIDES = ("ours", "diffusers", "host")
WHATS, HOWS = ("encode", "decode"), ("together", "one by one")
Setting = tuple[str, str, str]  # what is done, how, by which side


@dataclass(frozen=True)
class Case:
    """The three autoencoders on the same weights, and what each does with frames; latents are of unit scale."""

    config: AutoencoderConfig
    steps: dict[tuple[str, str], Step]  # by what is done and by which side

    @classmethod
    def make(cls, config: AutoencoderConfig, device: str, dtype: torch.dtype) -> "Case":
        ours: Any = build_autoencoder(config, device=device, dtype=dtype).eval()
        weights, scale = seeded_weights(ours), config.scale_factor
        ours.load_state_dict(weights, assign=True)
        theirs, host = diffusers_autoencoder(config, weights).eval(), host_autoencoder(config, weights).eval()
        return cls(
            config,
            {
                ("encode", OURS): ours.encode,
                ("decode", OURS): ours.decode,
                ("encode", DIFFUSERS): lambda x: theirs.encode(x).latent_dist.mode() * scale,
                ("decode", DIFFUSERS): lambda z: theirs.decode(z / scale).sample,
                ("encode", HOST): lambda x: host.encode(x) * scale,
                ("decode", HOST): lambda z: host.decode(z / scale),
            },
        )


def diffusers_autoencoder(config: AutoencoderConfig, weights: dict[str, Tensor]) -> Any:
    """diffusers' autoencoder with these weights by LDM's names."""
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = len(config.channel_mult)
    model: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(config.channels * mult for mult in config.channel_mult),
        layers_per_block=config.num_res_blocks,
        latent_channels=config.latent_channels,
    )
    named = {f"first_stage_model.{name}": tensor for name, tensor in weights.items()}
    model.load_state_dict(convert_ldm_vae_checkpoint(named, dict(model.config)), assign=True)
    return model


def host_autoencoder(config: AutoencoderConfig, weights: dict[str, Tensor]) -> Any:
    """The network that the host's VAE runs, with these weights; call it only once the host is importable."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    sizes = {
        "double_z": True, "z_channels": config.latent_channels, "resolution": 256, "in_channels": 3, "out_ch": 3,
        "ch": config.channels, "ch_mult": list(config.channel_mult), "num_res_blocks": config.num_res_blocks,
        "attn_resolutions": [], "dropout": 0.0,
    }  # fmt: skip
    model = AutoencoderKL(ddconfig=sizes, embed_dim=config.latent_channels)
    model.load_state_dict(weights, assign=True)
    return model


def operations(config: AutoencoderConfig, what: str, frames: Tensor) -> int:
    """Floating-point operations of our autoencoder on these frames, counted on the meta device."""
    network: Any = build_autoencoder(config, device="meta")
    with FlopCounterMode(display=False) as counter:
        getattr(network, what)(torch.empty(frames.shape, device="meta"))
    return counter.get_total_flops()


def one_by_one(step: Step, frames: Tensor) -> Tensor:
    return torch.cat([step(frame) for frame in frames.split(1)])


def measure(case: Case, given: dict[str, Tensor], runs: int) -> None:
    """Print the table of one case; `given` are the frames to encode, and the latents to decode."""
    device, dtype = given["encode"].device.type, given["encode"].dtype
    settings = list(product(WHATS, HOWS, SIDES))
    differences: dict[str, float] = {}
    for what in WHATS:
        ours, *others = (case.steps[what, side](given[what]) for side in SIDES)
        differences |= {f"{what}, {n}": difference(ours, its) for n, its in zip(SIDES[1:], others, strict=True)}
        differences[f"{what}, one by one"] = difference(one_by_one(case.steps[what, OURS], given[what]), ours)
    check_equal(differences, dtype)

    def step(what: str, how: str, side: str) -> Callable[[], Tensor]:
        run, frames = case.steps[what, side], given[what]
        return (lambda: run(frames)) if how == "together" else lambda: one_by_one(run, frames)

    steps = {setting: step(*setting) for setting in settings}
    memory = {setting: above_weights(run, device) for setting, run in steps.items()}
    rate = matrix_rate(device, dtype)
    times = dict(zip(settings, in_turn(list(steps.values()), runs), strict=True))
    rate, frames, config = max(rate, matrix_rate(device, dtype)), len(given["encode"]), case.config
    rows: list[Row] = []
    for what, how in product(WHATS, HOWS):
        its, held, name = times[what, how, OURS], memory[what, how, OURS], f"{what}, {how}"
        for side in SIDES[1:]:
            rows += [
                time_row(name, its, times[what, how, side], side),
                memory_row(name, held, memory[what, how, side], side),
            ]
        if how == "together":
            rows.append(time_row(name, its, times[what, "one by one", OURS], "one by one"))
        rows.append(Row(name, "time per frame", statistics.median(its) / frames * 1e3, "ms"))
        rows.append(floor_row(name, operations(config, what, given[what]) / rate, its))
    print_rows(rows)


@torch.inference_mode()
def main() -> None:
    gpu = torch.cuda.is_available()
    parser = benchmark_options(__doc__, half="bfloat16")
    parser.add_argument("--channels", type=int, default=128 if gpu else 32)
    parser.add_argument("--frames", type=int, default=16 if gpu else 4)
    parser.add_argument("--height", type=int, default=320 if gpu else 256)
    parser.add_argument("--width", type=int, default=512 if gpu else 256)
    options = read_options(parser)
    sys.argv = sys.argv[:1]  # the host reads them when it is imported
    import_host()
    device, dtype = options.device, getattr(torch, options.dtype)
    config = AutoencoderConfig(channels=options.channels)
    h, w = options.height // config.downscale, options.width // config.downscale
    draw = torch.Generator().manual_seed(0)
    frames = torch.rand(options.frames, 3, options.height, options.width, generator=draw) * 2 - 1
    latents = torch.randn(options.frames, config.latent_channels, h, w, generator=draw)
    print(
        f"{options.frames} frames of {options.width} x {options.height}, {options.channels} channels, {dtype}, {device}"
    )
    given = {"encode": frames.to(device, dtype), "decode": latents.to(device, dtype)}
    measure(Case.make(config, device, dtype), given, options.runs)


if __name__ == "__main__":
    main()
