"""Adapters as models of the host, attached to the model that they extend."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import comfy.model_management
import comfy.ops
import comfy.utils
import torch
from torch import Tensor, nn

from ...i2v_core.methods import METHODS, Method
from ...i2v_core.model.video_unet import VideoUNet
from ...i2v_core.weights.adapters import check_replacement, mean_weights, trained_betas
from ..sockets import GivenAdapter
from .patcher import load_weights, make_patcher
from .patches import host_attention

UNET = "diffusion_model."
ALONG = "i2v_trained_along"


def require_kind(adapter: GivenAdapter, kind: str) -> None:
    """Refuse an adapter of another method."""
    if adapter.contents.kind != kind:
        raise ValueError(
            f"'{adapter.name}' is an adapter for {adapter.contents.kind.replace('_', ' ')}, and this node applies "
            f"{kind.replace('_', ' ')}: choose a file of that kind in Load I2V Adapter."
        )


def check_method(method: Method, unet: VideoUNet, name: str) -> None:
    """Refuse a model to which the adapter called so does not belong."""
    try:
        method.check(unet)
    except ValueError as error:
        raise ValueError(f"Cannot use '{name}' here: {error}.") from error


def attach(model: Any, adapter: GivenAdapter) -> tuple[Any, nn.Module]:
    """A copy of the model with the adapter beside it: loaded, offloaded and cast by the host.

    The weights of the base that were fine-tuned jointly become ordinary weight patches, which the host takes back.

    Returns:
        The model's patcher, and the adapter's network for the caller's wrapper.

    Raises:
        ValueError: the adapter was trained with another base; the first mismatch is named.
    """
    contents = adapter.contents
    return attach_network(model, adapter, partial(METHODS[contents.kind].build, contents.config), contents.tensors)


def attach_network(
    model: Any, adapter: GivenAdapter, build: Callable[..., nn.Module], tensors: Mapping[str, Tensor]
) -> tuple[Any, nn.Module]:
    """As `attach`, for the part of an adapter that `build` makes and whose weights `tensors` are."""
    _check_betas(adapter)
    patched = model.clone()
    _replace_weights(patched, adapter)
    own = manage(build, tensors, model.load_device, model.offload_device)
    patched.set_additional_models(f"i2v_{adapter.contents.kind}", [own])
    return patched, own.model


def _check_betas(adapter: GivenAdapter) -> None:
    """Refuse an adapter of other noise than models of the host have."""
    if trained_betas(adapter.contents.metadata) != "base":
        raise ValueError(
            f"'{adapter.name}' was trained on linear betas (diffusion.betas), and models sample on their own here: use "
            "it with python -m i2v_core animate --adapter, or train it on the model's own betas."
        )


def manage(
    build: Callable[..., nn.Module],
    tensors: Mapping[str, Tensor],
    load_device: torch.device,
    offload_device: torch.device,
) -> Any:
    """A network of the host's layers with these weights, in a patcher of its own."""
    layers = {"operations": comfy.ops.manual_cast, "attention": host_attention}
    module = build(**layers, device=offload_device, dtype=comfy.utils.weight_dtype(dict(tensors))).eval()
    patcher = make_patcher(module, load_device, offload_device)
    load_weights(module.load_state_dict, tensors, patcher)
    return patcher


def _replace_weights(patched: Any, adapter: GivenAdapter) -> None:
    tensors = adapter.contents.unet
    if not tensors:
        return
    check_replacement(patched.model.diffusion_model.state_dict(), tensors, f"'{adapter.name}'")
    # What several adapters trained is averaged: the last patch that sets a weight counts.
    along = (*(patched.get_attachment(ALONG) or ()), tensors)
    patched.set_attachments(ALONG, along)
    mean = mean_weights({name: each[name] for name in tensors if name in each} for each in along)
    patched.add_patches({UNET + name: ("set", (tensor,)) for name, tensor in mean.items()})
