"""What comparisons with peers share: the host's modules, the check of outputs, memory beside the weights, the table."""

import importlib.util
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import torch
from _measure import peak_memory
from torch import Tensor, nn

from i2v_core.model.compiled import compile_blocks
from i2v_core.model.video_unet import VideoUNet

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}  # of the outputs' standard deviation
MIB = 2**20


def import_host(*, pytorch_attention: bool = False) -> None:
    """Make the host's modules importable: those of COMFYUI_PATH, or of the copy that dev.py made.

    Args:
        pytorch_attention: PyTorch's attention also where the host would take its own, as on a CPU.

    Raises SystemExit if there is no host.
    """
    import dev

    folder = dev.find_host()
    if not (folder / "main.py").is_file():
        raise SystemExit(f"no ComfyUI in {folder}: run `python3 dev.py bench`, or set COMFYUI_PATH")
    sys.path.insert(0, str(folder))  # in front, because our own `nodes` would otherwise hide the host's
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the host's own are not ours to mend
        import comfy.cli_args

        comfy.cli_args.args.cpu = not torch.cuda.is_available()
        comfy.cli_args.args.use_pytorch_cross_attention = pytorch_attention


def import_pack(*, pytorch_attention: bool = False) -> ModuleType:
    """The pack as the host loads it, see `import_host`; its submodules are imported from the name of this module."""
    import_host(pytorch_attention=pytorch_attention)
    name = "i2v_pack"
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py")
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def above_weights(step: Callable[[], object], device: str) -> int:
    """Peak bytes beside what was there before: allocated on CUDA, else counted tensor by tensor."""
    if device != "cuda":
        return peak_memory(step)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


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


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table."""
    for cells in (columns, ["---"] * len(columns), *rows):
        print("| " + " | ".join(map(str, cells)) + " |")
