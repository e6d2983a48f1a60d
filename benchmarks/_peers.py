"""Two networks on the same weights: seeded ones, and the check that their outputs are equal."""

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from i2v_core.model.compiled import compile_blocks
from i2v_core.model.video_unet import VideoUNet

TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}  # of the outputs' standard deviation


def seeded_weights(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Weights for a network, on its device, that keep the size of what passes through."""
    draws: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            draws[name] = tensor
            continue
        generator = torch.Generator(tensor.device).manual_seed(seed + len(draws))
        drawn = torch.empty_like(tensor, dtype=torch.float32).normal_(generator=generator)
        kept = drawn * 0.05 + name.endswith("weight") if tensor.ndim == 1 else drawn / tensor[0].numel() ** 0.5
        draws[name] = kept.to(tensor.dtype)
    return draws


def compile_and_warm(network: VideoUNet, step: Callable[[], Tensor]) -> Tensor:
    """Compile a network block by block and say how long its first step took, which is returned."""
    compile_blocks(network)
    started = time.perf_counter()
    made = step()
    print(f"compiled in {time.perf_counter() - started:.0f} s")
    return made


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference in standard deviations of theirs; infinite where either has no number."""
    largest = ((ours - theirs).float().abs().max() / theirs.float().std()).item()
    return largest if largest == largest else float("inf")


def check_equal(differences: Mapping[str, float], dtype: torch.dtype) -> None:
    """Print the differences of outputs, and raise SystemExit if one is beyond what the dtype allows."""
    listed = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    print(f"\nlargest differences of outputs, of their standard deviation: {listed}\n")
    beyond = [name for name, value in differences.items() if value > TOLERANCE[dtype]]
    if beyond:
        raise SystemExit(f"outputs differ by more than {TOLERANCE[dtype]:.0e}: {', '.join(beyond)}")
