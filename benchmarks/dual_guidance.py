"""Time and memory of one step of dual guidance with 1, 2 and 3 passes, together and in turn, against one pass.

k passes are to cost at most k times one pass and 5 %. All settings are called in turn in one process, each after one
pass; the table gives the ratios of times with their spread (on a CPU of processor time, which other programs disturb
little) and those of the peak memory of activations: allocated on CUDA, else counted tensor by tensor. The demo model
with image retention, or alone if there is no adapter file.
Usage: `python3 dev.py bench --runs 7`, or by itself with `--size 16 --adapter none` for other cases.
"""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _host import ROOT
from _measure import above_weights, in_turn
from _options import benchmark_options, read_options
from _peers import check_equal, difference
from _rows import Row, memory_row, print_rows, time_row

from i2v_core import load_checkpoint
from i2v_core.conditions import Conditions
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.guidance import DualGuidance
from i2v_core.weights import load_adapter

SCALES = {1: (1.0, 1.0), 2: (3.0, 3.0), 3: (3.0, 2.0)}  # passes: text and image scale
SETTINGS = [(1, False), (2, False), (2, True), (3, False), (3, True)]  # passes, and whether as one batch
ALLOWED = 1.05
ACTIVATIONS = "memory of activations"


def measure(step: Callable[[int, bool], Callable[[], Tensor]], runs: int, device: str) -> None:
    """Print the table of all settings; raises SystemExit if together and in turn differ."""
    steps = {setting: step(*setting) for setting in SETTINGS}
    check_equal({f"{k} passes": difference(step(k, True)(), step(k, False)()) for k in (2, 3)}, torch.float32)
    memory = {setting: above_weights(run, device) for setting, run in steps.items()}
    # One pass right before each setting, because load on the machine changes within seconds.
    paired = [run for setting in SETTINGS[1:] for run in (steps[SETTINGS[0]], steps[setting])]
    times = in_turn(paired, runs)
    alone = memory[SETTINGS[0]]
    singles = [one for its in times[::2] for one in its]
    rows = [time_row("1 pass", singles), memory_row("1 pass", alone, measured=ACTIVATIONS)]
    for (passes, together), one, its in zip(SETTINGS[1:], times[::2], times[1::2], strict=True):
        case, many = f"{passes} passes {'together' if together else 'in turn'}", [passes * each for each in one]
        above = max(0, statistics.median(a / b for a, b in zip(its, many, strict=True)) / ALLOWED - 1)
        rows += [
            time_row(case, its, one, "1 pass"),
            time_row(case, its, many, "as many single ones"),
            Row(case, f"above {ALLOWED} of as many single ones", above * 100, "%"),
            memory_row(case, memory[passes, together], alone, "1 pass", ACTIVATIONS),
        ]
    print_rows(rows)


@torch.inference_mode()
def main() -> None:
    gpu = torch.cuda.is_available()
    parser = benchmark_options(__doc__, runs=7, threads=1)
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--size", type=int, default=64 if gpu else 24, help="side of the latents")
    parser.add_argument("--adapter", default=ROOT / "demo" / "adapters" / "image_retention.safetensors")
    options = read_options(parser)
    device, clips, size = options.device, options.clips, options.size
    checkpoint = load_checkpoint(ROOT / "demo" / "i2v_demo.safetensors", device=device)
    adapters = [load_adapter(options.adapter, device=device)] if Path(options.adapter).exists() else []
    denoiser = Denoiser.adapted(checkpoint.unet, checkpoint.preset, adapters)
    config, draw = checkpoint.unet.config, torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(device)

    branches = [
        denoiser.prepare(
            Conditions(
                text=random(clips, 32, config.context_dim),
                pooled_text=random(clips, config.pooled_text_dim or 1),
                image_latent=random(clips, 12, 1, size, size),
                image=random(clips, 3, 4 * size, 4 * size).clamp(-1, 1),
            )
        )
        for _ in range(3)
    ]
    state, sigma = random(clips, 12, 8, size, size), torch.tensor(2.0)

    def step(passes: int, together: bool) -> Callable[[], Tensor]:
        weights = DualGuidance(*SCALES[passes]).at(0)
        assert sum(weights.needed) == passes
        return lambda: denoiser.denoise_branches(state, sigma, branches, weights, together=together)

    kinds = ", ".join(adapter.kind.replace("_", " ") for adapter in adapters) or "no adapter"
    print(f"demo model with {kinds}, {clips} clips of 8 frames, latents {size} x {size}, {device}")
    measure(step, options.runs, device)


if __name__ == "__main__":
    main()
