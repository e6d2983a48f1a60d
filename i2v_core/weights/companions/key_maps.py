"""Parameter names of CLIP towers and autoencoders as the files have them, against those of the classes we load."""

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from ..contents import Tensors, below
from ..recognize import count_blocks

OPEN_CLIP_LAYER = (
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)
OPEN_CLIP_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
OPEN_CLIP_IMAGE = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",  # the library's own spelling
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
OPEN_CLIP_RESBLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)$")
OPEN_CLIP_JOINED = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)$")

# Diffusers' autoencoder against LDM's; its `up` counts from coarse to fine, ours from fine to coarse.
VAE_MIDDLE = (
    ("mid_block.resnets.0.", "mid.block_1."),
    ("mid_block.resnets.1.", "mid.block_2."),
    ("mid_block.attentions.0.", "mid.attn_1."),
    ("conv_norm_out.", "norm_out."),
    ("conv_shortcut.", "nin_shortcut."),
    ("group_norm.", "norm."),
)
VAE_ATTENTION = {"to_q": "q", "query": "q", "to_k": "k", "key": "k", "to_v": "v", "value": "v", "to_out.0": "proj_out",
                 "proj_attn": "proj_out"}  # fmt: skip


def is_open_clip(tensors: Mapping[str, Tensor]) -> bool:
    """A tower without prefix has OpenCLIP's names."""
    return any(name.startswith("transformer.resblocks.") for name in tensors)


def from_open_clip(tensors: Mapping[str, Tensor], single: Mapping[str, str]) -> Tensors:
    """A tower of OpenCLIP under transformers' names.

    Args:
        single: `OPEN_CLIP_TEXT` or `OPEN_CLIP_IMAGE`, the weights outside the layers; others are left aside.
    """
    return {new: tensor for name, tensor in tensors.items() for new, tensor in _renamed(name, tensor, single)}


def _renamed(name: str, tensor: Tensor, single: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    if joined := OPEN_CLIP_JOINED.match(name):
        layer, kind = joined.groups()
        for part, share in zip("qkv", tensor.chunk(3), strict=True):
            yield f"encoder.layers.{layer}.self_attn.{part}_proj.{kind}", share
    elif block := OPEN_CLIP_RESBLOCK.match(name):
        layer, module, kind = block.groups()
        if module in dict(OPEN_CLIP_LAYER):
            yield f"encoder.layers.{layer}.{dict(OPEN_CLIP_LAYER)[module]}.{kind}", tensor
    elif name in single:
        yield single[name], tensor


def vae_from_diffusers(tensors: Mapping[str, Tensor]) -> Tensors:
    """An autoencoder of diffusers under LDM's names, its attention's matrices as 1x1 convolutions."""
    levels = count_blocks(re.search(r"up_blocks\.(\d+)", name) for name in tensors)
    renamed = {_vae_name(name, levels): tensor for name, tensor in tensors.items()}
    return {
        name: tensor[:, :, None, None] if re.search(r"\.attn_1\.(q|k|v|proj_out)\.weight$", name) and tensor.ndim == 2
        else tensor
        for name, tensor in renamed.items()
    }  # fmt: skip


def _vae_name(name: str, levels: int) -> str:
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0\.", lambda m: f"up.{levels - 1 - int(m[1])}.upsample.", name)
    for theirs, ours in VAE_MIDDLE:
        name = name.replace(theirs, ours)
    return re.sub(
        r"(attn_1)\.(to_out\.0|to_[qkv]|query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{VAE_ATTENTION[m[2]]}.", name
    )


def without(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...], inner: str) -> Tensors | None:
    """The tower below the first of the prefixes, and below `inner` in it, that holds one; None if none does."""
    for prefix in prefixes:
        tower = below(tensors, prefix)
        for found in (below(tower, inner), tower):
            if is_open_clip(found) or "encoder.layers.0.layer_norm1.weight" in found:
                return found
    return None
