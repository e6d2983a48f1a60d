"""Time and memory of one step of dual guidance with 1, 2 and 3 passes, together and in turn, against one pass.

Prints ratios of times (median of the runs, all settings measured in turn in one process; on the CPU processor time of
one thread, which other programs disturb little) and of peak memory: allocated on CUDA, and on the CPU the activations
that PyTorch's profiler saw. The demo model with image retention, or alone if there is no adapter file.
Usage: `python benchmarks/dual_guidance.py --runs 7`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from i2v_core import load_checkpoint
from i2v_core.conditions import Conditions
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.guidance import DualGuidance
from i2v_core.weights import load_adapter

ROOT = Path(__file__).resolve().parents[1]
SCALES = {1: (1.0, 1.0), 2: (3.0, 3.0), 3: (3.0, 2.0)}  # passes: text and image scale


def peak_memory(step: Callable[[], object], device: torch.device) -> int:
    """Bytes of activations at the highest point of one step."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def seconds(step: Callable[[], object], device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--adapter", default=ROOT / "demo" / "adapters" / "image_retention.safetensors")
    options, _ = parser.parse_known_args()  # all benchmarks are given the same options
    device, clips = torch.device(options.device), options.clips
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(ROOT / "demo" / "i2v_demo.safetensors", device=device)
    adapters = [load_adapter(options.adapter, device=device)] if Path(options.adapter).exists() else []
    denoiser = Denoiser.adapted(checkpoint.unet, checkpoint.preset, adapters)
    config = checkpoint.unet.config
    branches = [
        denoiser.prepare(
            Conditions(
                text=torch.randn(clips, 32, config.context_dim, device=device),
                pooled_text=torch.randn(clips, config.pooled_text_dim or 1, device=device),
                image_latent=torch.randn(clips, 12, 1, 16, 16, device=device),
                image=torch.rand(clips, 3, 64, 64, device=device),
            )
        )
        for _ in range(3)
    ]
    state, sigma = torch.randn(clips, 12, 8, 16, 16, device=device), torch.tensor(2.0)

    def step(passes: int, together: bool) -> Callable[[], object]:
        weights = DualGuidance(*SCALES[passes]).at(0)
        assert sum(weights.needed) == passes
        return lambda: denoiser.denoise_branches(state, sigma, branches, weights, together=together)

    settings = [(1, False), (2, False), (2, True), (3, False), (3, True)]
    times: dict[tuple[int, bool], list[float]] = {setting: [] for setting in settings}
    for setting in settings:
        step(*setting)()
    for _ in range(options.runs):
        for setting in settings:
            times[setting].append(seconds(step(*setting), device))
    memory = {setting: peak_memory(step(*setting), device) for setting in settings}
    one = 1, False
    for setting in settings:
        ratios = [mine / alone for mine, alone in zip(times[setting], times[one], strict=True)]
        passes, together = setting
        how = "together" if together else "in turn" if passes > 1 else "alone"
        print(
            f"{passes} {how}: time {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}), "
            f"memory {memory[setting] / memory[one]:.2f}"
        )
    print(f"one pass: {statistics.median(times[one]) * 1000:.0f} ms, {memory[one] / 2**20:.1f} MiB of activations")


if __name__ == "__main__":
    main()
