"""Adapters as models of the host, attached to the model that they extend."""

from typing import Any

import comfy.model_management
import comfy.ops
import comfy.utils
from torch import nn

from ...i2v_core.weights.adapters import ADAPTERS, check_replacement
from ..sockets import GivenAdapter
from .network import host_attention
from .patcher import load_weights, make_patcher

UNET = "diffusion_model."


def require_kind(adapter: GivenAdapter, kind: str) -> None:
    """Refuse an adapter of another method."""
    if adapter.contents.kind != kind:
        raise ValueError(
            f"'{adapter.name}' is an adapter for {adapter.contents.kind.replace('_', ' ')}, and this node applies "
            f"{kind.replace('_', ' ')}: choose a file of that kind in Load I2V Adapter."
        )


def attach(model: Any, adapter: GivenAdapter) -> tuple[Any, nn.Module]:
    """A copy of the model with the adapter beside it: loaded, offloaded and cast by the host.

    The weights of the base that were trained along become ordinary weight patches, which the host takes back.

    Returns:
        The model's patcher, and the adapter's network for the caller's wrapper.

    Raises:
        ValueError: the adapter was trained with another base; the first mismatch is named.
    """
    contents = adapter.contents
    patched = model.clone()
    _replace_weights(patched, adapter)
    weights_dtype = comfy.utils.weight_dtype(contents.tensors)
    module = (
        ADAPTERS[contents.kind]
        .build(
            contents.config,
            operations=comfy.ops.manual_cast,
            attention=host_attention,
            device=model.offload_device,
            dtype=weights_dtype,
        )
        .eval()
    )
    own = make_patcher(module, model.load_device, model.offload_device)
    load_weights(module.load_state_dict, contents.tensors, own)
    patched.set_additional_models(f"i2v_{contents.kind}", [own])
    return patched, module


def _replace_weights(patched: Any, adapter: GivenAdapter) -> None:
    tensors = adapter.contents.unet
    if not tensors:
        return
    check_replacement(patched.model.diffusion_model.state_dict(), tensors, f"'{adapter.name}'")
    patched.add_patches({UNET + name: ("set", (tensor,)) for name, tensor in tensors.items()})
