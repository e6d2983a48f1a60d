"""Low-rank adaptation (arXiv:2106.09685) of a base's attention, in place of weights of the base trained in full.

`add_lora` before the optimizer is made, then train as always: only the small matrices require gradients. The result
goes into an adapter file as whole weights (`merged_weights`, for `save_adapter(unet=...)`), or into a file of its own
that ComfyUI's LoRA loaders apply to our models and to Stable Diffusion alike (`save_lora`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from ..files import StrPath
from ..methods.method import is_temporal
from ..weights.contents import Tensors
from ..weights.files import write_tensors
from .config import LoraConfig

ADAPTER = "default"  # what the library calls the only one there is
PREFIX = "lora_unet_"
DOWN = f".lora_A.{ADAPTER}.weight"
ATTENTION = re.compile(r"\.transformer_blocks\.\d+\.attn[12]\.(to_[qkv](_ip)?|to_out\.0)$")


def attention_layers(unet: nn.Module, layers: Literal["all", "spatial", "temporal"] = "all") -> list[str]:
    """Names of the linear layers of the attention, without a LoRA yet."""
    wanted = {"all": (False, True), "spatial": (False,), "temporal": (True,)}[layers]
    return [name for name, _ in unet.named_modules() if ATTENTION.search(name) and is_temporal(name) in wanted]


def add_lora(unet: nn.Module, config: LoraConfig, wanted: Callable[[str], bool] = lambda _: True) -> None:
    """Put a LoRA beside the attention layers, in place; it begins at nothing, and all other weights are frozen.

    What is to be trained in full besides is unfrozen afterwards.

    Args:
        wanted: whether a weight of the base, by its name, may be adapted.

    Raises:
        ImportError: the package `peft` is not installed.
        ValueError: the network has no such layers.
    """
    try:
        from peft import LoraConfig as PeftConfig
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise ImportError("Training a LoRA needs the package peft: run `pip install peft`.") from error

    names = [name for name in attention_layers(unet, config.layers) if wanted(f"{name}.weight")]
    if not names:
        raise ValueError(
            f"this network has no attention layers of the kind '{config.layers}' among what is trained: choose another "
            "kind in lora.layers"
        )
    described = PeftConfig(r=config.rank, lora_alpha=config.alpha, target_modules=names)  # type: ignore[arg-type]
    inject_adapter_in_model(described, unet)


def lora_tensors(weights: Mapping[str, Tensor], config: LoraConfig) -> Tensors:
    """The LoRA in the form in which LoRA files are shared: `lora_unet_NAME` with up, down and alpha.

    Args:
        weights: of a network after `add_lora`, by its names.
    """
    tensors: dict[str, Tensor] = {}
    for name, down, up in _pairs(weights):
        key = PREFIX + name.replace(".", "_")
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
        tensors[f"{key}.alpha"] = torch.tensor(float(config.alpha))
    return tensors


def merged_weights(weights: Mapping[str, Tensor], config: LoraConfig) -> Tensors:
    """The adapted weights in full, by the base's own names: what replaces the base's where no LoRA is known."""
    scale = config.alpha / config.rank
    return {
        f"{name}.weight": weights[f"{name}.base_layer.weight"] + scale * (up @ down)
        for name, down, up in _pairs(weights)
    }


def _pairs(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name of the adapted layer, matrix down and matrix up."""
    for name, down in weights.items():
        if name.endswith(DOWN):
            layer = name.removesuffix(DOWN)
            yield layer, down.detach(), weights[f"{layer}.lora_B.{ADAPTER}.weight"].detach()


def save_lora(
    path: StrPath,
    weights: Mapping[str, Tensor],
    config: LoraConfig,
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the LoRA as safetensors; the file appears complete or not at all.

    Args:
        weights: as of `lora_tensors`.
        metadata: further text of the header, such as `i2v.base_sha256`.

    Raises OSError if the folder or the disk refuses.
    """
    header = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "lvdm-video-unet/lora",
        "modelspec.implementation": "i2v_core",
        **(metadata or {}),
    }
    write_tensors(path, {name: tensor.to(dtype) for name, tensor in lora_tensors(weights, config).items()}, header)


@torch.no_grad()
def apply_lora(unet: nn.Module, tensors: Mapping[str, Tensor], strength: float = 1.0) -> None:
    """Add a LoRA of this form to the weights of a network, in place.

    Raises ValueError for a LoRA with layers that the network does not have.
    """
    names = {PREFIX + name.removesuffix(".weight").replace(".", "_"): name for name, _ in unet.named_parameters()}
    keys = {name.removesuffix(".lora_up.weight") for name in tensors if name.endswith(".lora_up.weight")}
    if unknown := sorted(keys - names.keys()):
        raise ValueError(
            f"{len(unknown)} layers of the LoRA are not in this network, first '{unknown[0]}': it belongs to another "
            "base, or has another program's names"
        )
    for key in keys:
        up, down = tensors[f"{key}.lora_up.weight"], tensors[f"{key}.lora_down.weight"]
        share = strength * float(tensors.get(f"{key}.alpha", torch.tensor(len(down)))) / len(down)
        weight = unet.get_parameter(names[key])
        weight.add_(share * (up.to(weight) @ down.to(weight)).reshape(weight.shape))
