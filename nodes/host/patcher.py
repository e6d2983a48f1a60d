"""Weights in the host's care: it moves them between memories, and knows what is loaded."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from torch import Tensor, nn


def make_patcher(
    module: nn.Module,
    load_device: torch.device,
    offload_device: torch.device,
    *,
    disable_dynamic: bool = False,
) -> Any:
    """Give a module to the host: the patcher class that it chose at start, which old versions do not have."""
    plain = comfy.model_patcher.ModelPatcher
    kind = plain if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", plain)
    # The host records the dtypes before weights arrive as memory-mapped tensors of the file's own dtype.
    record_dtypes = getattr(comfy.model_management, "archive_model_dtypes", None)
    if record_dtypes is not None:
        record_dtypes(module)
    return kind(module, load_device=load_device, offload_device=offload_device)


def load_weights(load: Callable[..., Any], tensors: Mapping[str, Tensor], patcher: Any) -> None:
    """Call a loading function of the host or of PyTorch on a copy of the dict, as this patcher wants it."""
    takes_assign = "assign" in inspect.signature(load).parameters
    dynamic = takes_assign and hasattr(patcher, "is_dynamic") and patcher.is_dynamic()
    load(dict(tensors), **({"assign": True} if dynamic else {}))
