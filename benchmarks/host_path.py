"""Our network under the host against the host's own stock U-Net in Stable Diffusion 1.5's layout, on the same weights.

A clip goes through both as the host sends it, frames as a batch of two guidance branches, on the same layer classes and
the same attention of the host. Prints the ratio of times with its spread, both called in turn in one process, peak
memory above the weights and the share of the floor; outputs that differ beyond the dtype's tolerance fail. Needs
ComfyUI (COMFYUI_PATH, or the copy of dev.py).
Usage: `python3 dev.py bench --runs 5`; the full width: `python benchmarks/host_path.py --width 320`.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _floor import Floor, weight_bytes
from _host import import_pack
from _measure import above_weights, in_turn, matrix_rate, read_rate
from _options import benchmark_options, read_options
from _peers import check_equal, difference, seeded_weights
from _rows import floor_row, memory_row, print_rows, time_row
from torch.utils.flop_counter import FlopCounterMode

BRANCHES, CONTEXT, LEVELS = 2, 768, (1, 2, 4, 4)
OPTIONS = {"cond_or_uncond": [0, 1]}  # what the host says of the batch: the branches of each part
OURS, HOST = "ours", "host"
# What the host finds in a checkpoint of Stable Diffusion 1.5; only its loader insists on 320 channels.
LAYOUT: dict[str, Any] = {
    "image_size": 32, "use_checkpoint": False, "legacy": False, "use_spatial_transformer": True,
    "use_linear_in_transformer": False, "in_channels": 4, "out_channels": 4, "channel_mult": list(LEVELS),
    "num_res_blocks": [2, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 9 + [0] * 3, "context_dim": CONTEXT, "num_heads": 8,
}  # fmt: skip


def networks(pack: ModuleType, width: int, device: str, dtype: torch.dtype) -> dict[str, nn.Module]:
    """Our network and the host's on the same weights, from the host's layer classes."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    ours_by_host = importlib.import_module(f"{pack.__name__}.nodes.host.network")
    config = importlib.import_module(f"{pack.__name__}.i2v_core.model.video_unet").VideoUNetConfig(
        model_channels=width, channel_mult=LEVELS, num_heads=8, context_dim=CONTEXT,
        temporal_convolution=False, temporal_attention=False, init_attention=False,
    )  # fmt: skip
    factory = {"operations": comfy.ops.disable_weight_init, "device": torch.device(device), "dtype": dtype}
    host = UNetModel(model_channels=width, **LAYOUT, **factory).eval()
    weights = seeded_weights(host)
    host.load_state_dict(weights, assign=True)
    ours = ours_by_host.HostVideoUNet(config, **factory).eval()
    named = importlib.import_module(f"{pack.__name__}.i2v_core.weights.foreign").linear_projections(weights)
    ours.load_state_dict(named, assign=True)
    return {OURS: ours, HOST: host}


def measure(sides: dict[str, nn.Module], x: Tensor, text: Tensor, runs: int) -> None:
    """Print the table for latents `(n t) 4 h w` and their text, branch after branch."""
    device, dtype = x.device.type, x.dtype
    times = torch.full((len(x),), 500.0, device=x.device)

    def step(network: nn.Module) -> Callable[[], Tensor]:
        return lambda: network(x, times, context=text, transformer_options=dict(OPTIONS))

    steps = {name: step(network) for name, network in sides.items()}
    check_equal({"ours, host": difference(steps[OURS](), steps[HOST]())}, dtype)
    memory = {name: above_weights(run, device) for name, run in steps.items()}
    rate = matrix_rate(device, dtype)
    taken = dict(zip(steps, in_turn(list(steps.values()), runs), strict=True))
    with FlopCounterMode(display=False) as counter:
        steps[OURS]()
    floor = Floor(counter.get_total_flops(), weight_bytes(sides[OURS]), 0)
    least = floor.seconds(max(rate, matrix_rate(device, dtype)), read_rate(device))
    rows = []
    for name, its in taken.items():
        rows += [
            time_row(name, its, taken[HOST], HOST),
            memory_row(name, memory[name], memory[HOST], HOST),
            floor_row(name, least, its),
        ]
    print_rows(rows)


@torch.inference_mode()
def main() -> None:
    gpu = torch.cuda.is_available()
    parser = benchmark_options(__doc__, half="float16")
    parser.add_argument("--width", type=int, default=320 if gpu else 64)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=64 if gpu else 32, help="side of the latents")
    parser.add_argument("--pytorch-attention", action="store_true", help="in both, as the host does on NVIDIA's GPUs")
    options = read_options(parser)
    sys.argv = sys.argv[:1]  # the host reads them when it is imported
    device, dtype = options.device, getattr(torch, options.dtype)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(BRANCHES * options.frames, 4, options.size, options.size, generator=draw).to(device, dtype)
    text = torch.randn(BRANCHES, 77, CONTEXT, generator=draw).repeat_interleave(options.frames, 0).to(device, dtype)
    pack = import_pack(pytorch_attention=options.pytorch_attention)
    sides = networks(pack, options.width, device, dtype)
    shape = f"{options.frames} frames, {BRANCHES} branches, latents {options.size} x {options.size}"
    attention = "PyTorch's attention" if options.pytorch_attention else "the host's attention"
    print(f"{shape}, width {options.width}, {attention}, {dtype}, {device}")
    measure(sides, x, text, options.runs)


if __name__ == "__main__":
    main()
