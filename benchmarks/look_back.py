"""Look-back's cost: linear in the frames, constant memory in pieces, fast against literal, beside temporal attention.

Everything is printed as a ratio, with the size of the carried state and the memory that 48 frames of 256x256 need on
Stable Diffusion 1.5. On a CUDA device the sizes are Stable Diffusion 1.5's in half precision, and the time of a
recurrence is set against the floor of the machine: every frame's step reads the recurrent weights once, operations run
at the rate of a large matrix product, both guidance branches go in one step.
Usage: `python3 dev.py bench --runs 5 --threads 2`.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _measure import matrix_rate, peak_memory, read_rate, seconds
from _options import benchmark_options, read_options
from _rows import Row, memory_row, print_rows

from i2v_core.conditions import Conditions
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.guidance import ClassifierFreeGuidance
from i2v_core.diffusion.schedule import Schedule
from i2v_core.methods import LookBackMethod
from i2v_core.model.attention import scaled_dot_product_attention
from i2v_core.model.blocks import use_channels_last
from i2v_core.model.look_back import (
    LOOK_BACK_PRESETS,
    LookBack,
    LookBackSite,
    LookBackState,
    find_sites,
    look_back_literally,
)
from i2v_core.model.seams import Seams
from i2v_core.model.video_unet import LayerFactory, VideoUNet, VideoUNetConfig
from i2v_core.sampling import SamplingConfig, sample_pieces

FRAMES = (8, 16, 32, 64, 96)
SD15 = VideoUNetConfig(
    num_heads=8, context_dim=768, temporal_convolution=False, temporal_attention=False, init_attention=False
)
SMALL = replace(SD15, model_channels=32, context_dim=64)
GIB = 2**30


@dataclass(frozen=True)
class Case:
    """Sizes and place of the measurements."""

    device: str
    dtype: torch.dtype
    unet: VideoUNetConfig
    side: int  # of the latents
    runs: int

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def network(self) -> VideoUNet:
        return VideoUNet(self.unet, device=self.device, dtype=self.dtype).eval()

    def look_back(self, adapter: str = "causal") -> LookBack:
        sites = find_sites("stage", self.unet.model_channels, self.unet.channel_mult, self.unet.num_res_blocks)
        config = replace(LOOK_BACK_PRESETS["compact"], adapter=adapter, sites=sites)  # type: ignore[arg-type]
        look_back = LookBack(config, device=self.device, dtype=self.dtype).eval()
        for name, parameter in look_back.named_parameters():
            if "history" in name:
                parameter.div_(config.depth)
        if self.device == "cuda":
            use_channels_last(look_back)
        return look_back


def site_of(look_back: LookBack, name: str) -> LookBackSite:
    site = look_back.sites[name]
    assert isinstance(site, LookBackSite)
    return site


def both_implementations(case: Case) -> None:
    """Fast and literal recurrence on the same weights, both guidance branches at once, and the floor on a GPU."""
    # At the widths of Stable Diffusion 1.5 also on a CPU, where far smaller ones are all overhead.
    case, frames = replace(case, unet=SD15, side=32), 32 if case.device == "cuda" else 6
    look_back = case.look_back()
    rate, reading = matrix_rate(case.device, case.dtype, case.runs), read_rate(case.device, case.runs)
    rows = []
    for name, level in (("input_2", 0), ("input_5", 1), ("input_8", 2), ("middle_0", 3)):
        site, side = site_of(look_back, name), case.side >> level
        channels = look_back.config.sites[name]
        clip = case.random(2, frames, channels, side, side).transpose(1, 2)  # as it lies in the U-Net
        fast = seconds(lambda site=site, clip=clip: site.recur(clip), case.runs)  # type: ignore[misc]
        literal = seconds(lambda site=site, clip=clip: look_back_literally(site, clip), case.runs)  # type: ignore[misc]
        named = f"{channels} channels at {side}x{side}"
        rows.append(Row(named, "time", fast, "s", fast / literal, "literal recurrence"))
        if case.device == "cuda":
            least = floor(site, clip, rate, reading)
            rows.append(Row(named, "least possible time", least, "s", least / fast, "its time"))
    print_rows(rows)


def floor(site: LookBackSite, clip: Tensor, rate: float, reading: float) -> float:
    """Least seconds for a recurrence over a clip."""
    assert isinstance(site.history, nn.Conv2d)
    b, _, t, h, w = clip.shape
    positions = b * h * w
    operations = 2 * site.history.weight.numel() * positions
    step = max(operations / rate, site.history.weight.numel() * clip.element_size() / reading)
    current = 2 * site.current.weight.numel() * positions * t / rate
    return t * step + current


def growth(case: Case) -> None:
    """Time and peak memory of the network with look-back as frames are added, and of one site beside attention."""
    network, look_back = case.network(), case.look_back()
    text, times = case.random(1, 77, case.unet.context_dim), torch.full((1,), 500.0, device=case.device)
    channels = case.unet.model_channels
    site = site_of(look_back, "input_2")
    placed = {"device": case.device, "dtype": case.dtype}
    layers = LayerFactory(replace(case.unet, head_dim=channels // 8), nn, scaled_dot_product_attention, placed)
    attention = layers.init_attention(channels).eval()
    measured: list[tuple[float, ...]] = []
    for frames in FRAMES:
        x = case.random(1, 4, frames, case.side, case.side)
        flat = case.random(frames, channels, case.side, case.side)
        clip = flat[None].transpose(1, 2)
        runs = (
            lambda x=x: network(x, times, text, seams=Seams(after_block=look_back.after_block())),  # type: ignore[misc]
            lambda clip=clip: site(clip),  # type: ignore[misc]
            lambda flat=flat, frames=frames: attention(flat, frames),  # type: ignore[misc]
        )
        measured.append((*(seconds(run, case.runs) for run in runs), *(peak_memory(run) for run in runs)))
    rows = []
    for i, (frames, costs) in enumerate(zip(FRAMES, measured, strict=True)):
        whole, one, beside, memory, one_memory, beside_memory = costs
        name, before = f"{frames} frames", measured[i - 1] if i else None
        to = f"{FRAMES[i - 1]} frames" if i else ""
        rows += [
            Row(name, "time", whole, "s", before and whole / before[0], to),
            memory_row(name, memory, before and before[3], to, "memory"),
            Row(name, "time of one site", one, "s", one / beside, "temporal attention"),
            memory_row(name, one_memory, beside_memory, "temporal attention", "memory of one site"),
            Row(name, "time of temporal attention", beside, "s", before and beside / before[2], to),
        ]
    print_rows(rows)


def streaming(case: Case) -> None:
    """Peak memory of one denoising step in pieces of eight frames, whatever the length, and the carried state."""
    denoiser = Denoiser(case.network(), Schedule(), "eps", methods=(LookBackMethod(case.look_back()),))
    image = case.random(1, 4, 1, case.side, case.side)
    conditions = Conditions(text=case.random(1, 77, case.unet.context_dim), image_latent=image)
    sampling = SamplingConfig(1, "trailing", ClassifierFreeGuidance(2.0))
    peaks, rows = [], []
    for frames in FRAMES[1:]:
        noise, states = torch.randn(1, 4, frames, case.side, case.side), [LookBackState("cpu")]
        pieces = sample_pieces(
            denoiser, conditions, conditions, noise.to(case.dtype), sampling, frames=8, states=states
        )
        peaks.append(peak_memory(lambda pieces=pieces: [None for _ in pieces]))  # type: ignore[misc]
        name = f"{frames} frames in pieces of 8"
        rows.append(memory_row(name, peaks[-1], float(peaks[0]), f"{FRAMES[1]} frames in pieces of 8", "memory"))
        rows.append(memory_row(name, states[0].nbytes, measured="memory carried from piece to piece"))
    print_rows(rows)


def prediction() -> None:
    """Memory of 48 frames of 256x256 on Stable Diffusion 1.5 with the compact preset, counted without running it."""
    case = Case("meta", torch.float16, replace(SD15), 32, 1)

    def fused(q: Tensor, k: Tensor, v: Tensor, heads: int, **_: object) -> Tensor:
        return torch.empty_like(q)  # as GPUs attend, without the table of scores

    network = VideoUNet(case.unet, attention=fused, device="meta", dtype=case.dtype)
    look_back = case.look_back("centered")
    x, text, times = case.random(2, 4, 48, 32, 32), case.random(2, 77, 768), torch.full((2,), 500.0, device="meta")
    activations = peak_memory(lambda: network(x, times, text, seams=Seams(after_block=look_back.after_block())))
    weights = {
        "U-Net": sum(p.numel() for p in network.parameters()),
        "look-back": sum(p.numel() for p in look_back.parameters()),
        "text encoder and VAE": 123_060_480 + 83_653_863,
    }
    total = 2 * sum(weights.values()) + activations
    rows = [memory_row(part, 2 * count, measured="weights in fp16") for part, count in weights.items()]
    step = memory_row("one step, 48 frames at 256x256, both branches", activations, measured="memory above weights")
    # CUDA itself takes about 1 GiB besides.
    print_rows([*rows, step, memory_row("all together", total, 11 * GIB, "12 GiB without CUDA's own", "memory")])


def main() -> None:
    options = read_options(benchmark_options(__doc__))
    torch.manual_seed(0)
    gpu = options.device == "cuda"
    case = Case(*(("cuda", torch.float16, SD15, 32) if gpu else ("cpu", torch.float32, SMALL, 16)), runs=options.runs)
    with torch.no_grad():
        both_implementations(case)
        growth(case)
        streaming(case)
        prediction()


if __name__ == "__main__":
    main()
