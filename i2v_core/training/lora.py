"""Low-rank adaptation (arXiv:2106.09685) of a base's attention, in place of weights of the base trained in full.

`add_lora` before the optimizer is made, then train as always: only the small matrices require gradients. The result
goes into an adapter file as whole weights (`merged_weights`, for `save_adapter(unet=...)`), or into a file of its own
that ComfyUI's LoRA loaders apply to our models and to Stable Diffusion alike (`save_lora`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..files import StrPath
from ..weights.contents import Tensors
from ..weights.files import write_tensors
from .adapter import is_temporal

ADAPTER = "default"  # what the library calls the only one there is
PREFIX = "lora_unet_"
ATTENTION = re.compile(r"\.transformer_blocks\.\d+\.attn[12]\.(to_[qkv](_ip)?|to_out\.0)$")


@dataclass(frozen=True)
class LoraConfig:
    """How much of which layers is adapted.

    Attributes:
        rank: of the matrices. alpha: their product counts alpha / rank.
        layers: attention within frames, over frames, or both.

    Raises ValueError for a rank below 1.
    """

    rank: int = 16
    alpha: float = 16.0
    layers: Literal["all", "spatial", "temporal"] = "all"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"a LoRA needs a rank of at least 1, got {self.rank}")


def attention_layers(unet: nn.Module, layers: Literal["all", "spatial", "temporal"] = "all") -> list[str]:
    """Names of the linear layers of the attention, without a LoRA yet."""
    wanted = {"all": (False, True), "spatial": (False,), "temporal": (True,)}[layers]
    return [name for name, _ in unet.named_modules() if ATTENTION.search(name) and is_temporal(name) in wanted]


def add_lora(unet: nn.Module, config: LoraConfig) -> None:
    """Put a LoRA beside the attention layers, in place; it begins at nothing, and all other weights are frozen.

    What is to be trained in full besides is unfrozen afterwards.

    Raises:
        ImportError: the package `peft` is not installed.
        ValueError: the network has no such layers.
    """
    try:
        from peft import LoraConfig as PeftConfig
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise ImportError("Training a LoRA needs the package peft: run `pip install peft`.") from error

    names = attention_layers(unet, config.layers)
    if not names:
        raise ValueError(f"this network has no attention layers of the kind '{config.layers}': choose another kind")
    described = PeftConfig(r=config.rank, lora_alpha=config.alpha, target_modules=names)  # type: ignore[arg-type]
    inject_adapter_in_model(described, unet)


def lora_layers(unet: nn.Module) -> Iterator[tuple[str, Any]]:
    """The adapted layers, by the names of those that they stand for."""
    return ((name, module) for name, module in unet.named_modules() if hasattr(module, "lora_A"))


def lora_tensors(unet: nn.Module) -> Tensors:
    """The LoRA in the form in which LoRA files are shared: `lora_unet_NAME` with up, down and alpha."""
    tensors = {}
    for name, layer in lora_layers(unet):
        key, down = PREFIX + name.replace(".", "_"), layer.lora_A[ADAPTER].weight
        tensors[f"{key}.lora_down.weight"] = down.detach()
        tensors[f"{key}.lora_up.weight"] = layer.lora_B[ADAPTER].weight.detach()
        tensors[f"{key}.alpha"] = torch.tensor(float(layer.scaling[ADAPTER] * len(down)))
    return tensors


def merged_weights(unet: nn.Module) -> Tensors:
    """The adapted weights in full, by the base's own names: what replaces the base's where no LoRA is known."""
    return {
        f"{name}.weight": (layer.get_base_layer().weight + layer.get_delta_weight(ADAPTER)).detach()
        for name, layer in lora_layers(unet)
    }


def save_lora(
    path: StrPath, unet: nn.Module, *, metadata: Mapping[str, str] | None = None, dtype: torch.dtype = torch.float16
) -> None:
    """Write the LoRA as safetensors; the file appears complete or not at all.

    Args:
        metadata: further text of the header, such as `i2v.base_sha256`.

    Raises OSError if the folder or the disk refuses.
    """
    header = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "lvdm-video-unet/lora",
        "modelspec.implementation": "i2v_core",
        **(metadata or {}),
    }
    write_tensors(path, {name: tensor.to(dtype) for name, tensor in lora_tensors(unet).items()}, header)


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
