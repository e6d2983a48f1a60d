"""Seeded small bases with their companions, in the real layouts: prefixes, names, widths of tokens and latents."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from i2v_core.model.look_back import LookBack, LookBackConfig, find_sites, initialize_look_back
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.weights import save_adapter
from i2v_core.weights.contents import build_autoencoder
from tests.core.weights.small import SMALL, SMALL_IMAGE_MODEL, modelscope_state, prefixed, seed
from tests.core.weights.small_files import (
    AUTOENCODER,
    noise_view,
    prefixed_views,
    small_tensors,
    text_tower,
    vision_tower,
)

STABLE_DIFFUSION = replace(SMALL_IMAGE_MODEL, context_dim=768, num_heads=8)
MODELSCOPE = replace(SMALL, head_dim=64, context_dim=1024)


def write_stable_diffusion(path: Path) -> Path:
    """Stable Diffusion 1.5's full checkpoint."""
    unet = {
        name: tensor[..., None, None] if name.endswith((".proj_in.weight", ".proj_out.weight")) else tensor
        for name, tensor in seed(VideoUNet(STABLE_DIFFUSION)).state_dict().items()
    }
    tensors = prefixed("model.diffusion_model.", unet) | autoencoder_tensors("first_stage_model.")
    torch.save({"state_dict": tensors | clip_l_tensors("cond_stage_model.transformer.text_model.")}, path)
    return path


def write_dynamicrafter(path: Path) -> Path:
    """DynamiCrafter 512's full checkpoint, with towers of few layers."""
    tensors = small_tensors("dynamicrafter_512", "pruned") | text_tower(layers=2) | vision_tower(layers=1)
    torch.save({"state_dict": tensors}, path)
    return path


def write_modelscope(folder: Path) -> tuple[Path, Path, Path]:
    """ModelScope's U-Net, its autoencoder and OpenCLIP, in files of their own as it is shared."""
    paths = tuple(folder / name for name in ("text2video_pytorch_model.pth", "VQGAN.pth", "open_clip.bin"))
    unet, vae, clip = paths
    torch.save(modelscope_state(seed(VideoUNet(MODELSCOPE)).state_dict()), unet)
    torch.save({"state_dict": autoencoder_tensors("")}, vae)
    open_clip = {name.removeprefix("cond_stage_model.model."): t for name, t in text_tower(layers=2).items()}
    towers = open_clip | prefixed_views("visual.", vision_tower(layers=1))
    # A file of companions has to hold the numbers that it names.
    torch.save({name: tensor.contiguous() for name, tensor in towers.items()}, clip)
    return unet, vae, clip


def write_look_back(path: Path, unet: VideoUNetConfig) -> Path:
    """A look-back adapter for this U-Net, the identity."""
    sites = find_sites("stage", unet.model_channels, unet.channel_mult, unet.num_res_blocks)
    look_back = LookBack(LookBackConfig(sites=sites))
    initialize_look_back(look_back)
    save_adapter(path, "look_back", look_back)
    return path


def autoencoder_tensors(prefix: str) -> dict[str, Tensor]:
    return prefixed(prefix, seed(build_autoencoder(AUTOENCODER)).state_dict())


def clip_l_tensors(prefix: str, width: int = 768, layers: int = 1) -> dict[str, Tensor]:
    """CLIP ViT-L/14's text tower of few layers, its matrices views of short noise."""
    block: dict[str, tuple[int, ...]] = {
        **{f"self_attn.{name}.weight": (width, width) for name in ("q_proj", "k_proj", "v_proj", "out_proj")},
        **{f"self_attn.{name}.bias": (width,) for name in ("q_proj", "k_proj", "v_proj", "out_proj")},
        "mlp.fc1.weight": (4 * width, width),
        "mlp.fc1.bias": (4 * width,),
        "mlp.fc2.weight": (width, 4 * width),
        "mlp.fc2.bias": (width,),
        **{f"layer_norm{i}.{kind}": (width,) for i in (1, 2) for kind in ("weight", "bias")},
    }
    tower: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (49408, width),
        "embeddings.position_embedding.weight": (77, width),
        "final_layer_norm.weight": (width,),
        "final_layer_norm.bias": (width,),
        **{f"encoder.layers.{i}.{name}": shape for i in range(layers) for name, shape in block.items()},
    }
    return {prefix + name: noise_view(name, shape) for name, shape in tower.items()}
