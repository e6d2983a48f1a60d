"""Wrappers that trainers put around a state dict: mappings that hold it, and prefixes in the names of its tensors."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

AVERAGES = ("ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "params_ema")
CURRENT = ("state_dict", "model_state_dict", "module", "model", "params", "unet", "network", "net")
DEPTH = 4  # of wrappers in wrappers
# torch.compile, DeepSpeed, FSDP, activation checkpointing and (distributed) data parallelism, wherever they stand.
_COMPONENT = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\."
)
_NO_WEIGHTS = re.compile("optim|sched|scaler|loss|callback", re.IGNORECASE)


def unwrap(content: Mapping[Any, Any], depth: int = DEPTH) -> dict[str, Tensor]:
    """The tensors of a saved file by name, from below its wrappers; an average goes before what it is the average of.

    Raises ValueError if there are several sets of tensors and no name tells which is the model.
    """
    own = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    inner = {
        str(name): found
        for name, value in content.items()
        if depth and isinstance(value, Mapping) and not _NO_WEIGHTS.search(str(name))
        if (found := unwrap(value, depth - 1))
    }
    average = next((inner[name] for name in AVERAGES if name in inner), {})
    current = next((inner[name] for name in CURRENT if name in inner), own)
    if average and len(average) >= len(current):
        return average
    if not current and len(inner) > 1:
        names = ", ".join(f"'{name[:40]}'" for name in list(inner)[:4])
        raise ValueError(f"it holds {len(inner)} sets of tensors ({names}); save the one to load by itself")
    return current or next(iter(inner.values()), {})


def bare_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the components that wrappers of modules add to names; all as they are if two clash."""
    bare = {_COMPONENT.sub("", name): tensor for name, tensor in tensors.items()}
    return bare if len(bare) == len(tensors) else dict(tensors)


def outer_prefix(names: Iterable[str], inner: str) -> str:
    """Prefixes of names that end in `inner`; an average's before others, the shortest first."""
    found = [name.removesuffix(inner) for name in names if name.endswith(f".{inner}")]
    return min(found, key=lambda prefix: ("ema" not in prefix, len(prefix)), default="")
