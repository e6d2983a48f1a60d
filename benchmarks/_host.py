"""ComfyUI and this pack in it, as a benchmark imports them."""

import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

import torch

ROOT = Path(__file__).resolve().parents[1]


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
