"""Seeded small checkpoint files in every layout in which the public ones are shared.

Names, shapes' ranks, prefixes and buffers are the real ones; only widths and depths are small. The two CLIP towers,
which the host knows by their real sizes, have those: their matrices are overlapping views of short noise, so that a
PyTorch file stays small.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from i2v_core.diffusion.schedule import signal_scale
from i2v_core.model.autoencoder import AutoencoderConfig
from i2v_core.model.dual_reference_decoder import DualReferenceConfig
from i2v_core.model.image_projection import ImageProjection, ImageProjectionConfig
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.presets import PRESETS
from i2v_core.weights.contents import build_autoencoder
from tests.core.weights.small import PUBLIC, prefixed, seed
from tests.parity.seeded import seeded_normal

Layout = Literal["full", "deepspeed", "pruned", "unet_and_projection", "unet_only"]
LAYOUTS: tuple[Layout, ...] = ("full", "deepspeed", "pruned", "unet_and_projection", "unet_only")
SUFFIX = {"full": ".ckpt", "deepspeed": ".ckpt"}

# Variant: the public network that it has, and the preset whose schedule it was trained on.
VARIANTS = {name: (name, name) for name in PUBLIC if name.startswith(("dynamicrafter", "videocrafter"))} | {
    "dynamicrafter_512_interp": ("dynamicrafter_512", "dynamicrafter_512_interp"),
    "dynamicrafter_cil_512": ("dynamicrafter_512", "dynamicrafter_512"),
    "dynamicrafter_cil_1024": ("dynamicrafter_1024", "dynamicrafter_1024"),
    "tooncrafter": ("dynamicrafter_512", "tooncrafter"),
}

AUTOENCODER = AutoencoderConfig(channels=32, channel_mult=(1, 1, 1, 1), num_res_blocks=1)
DUAL_REFERENCE = DualReferenceConfig(**vars(AUTOENCODER), fusion_heads=1)
PROJECTION = ImageProjectionConfig(features=64, depth=1, heads=1)


def small_unet_config(variant: str) -> VideoUNetConfig:
    """The variant's network in small, with its real channels, text width and mechanisms."""
    config, _, _ = PUBLIC[VARIANTS[variant][0]]
    return replace(
        config, model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(0, 1), head_dim=32
    )


def small_autoencoder_config(variant: str) -> AutoencoderConfig:
    """The variant's autoencoder in small, with its real latents."""
    return DUAL_REFERENCE if variant == "tooncrafter" else AUTOENCODER


def small_tensors(variant: str, layout: Layout) -> dict[str, Tensor]:
    """All tensors of the variant's file, by their real names, in float32."""
    config = small_unet_config(variant)
    rate = "framestride_embed" if variant == "dynamicrafter_256" else "fps_embedding"
    unet = {
        name.replace("fps_embedding", rate): tensor[..., None] if is_convolution(name) else tensor
        for name, tensor in seed(VideoUNet(config)).state_dict().items()
    }
    tensors = prefixed("model.diffusion_model.", unet)
    if layout == "unet_only":
        return tensors
    if config.image_gate != "none":
        frames = 16 if config.image_token_layout == "per_frame" else None
        projection = ImageProjection(replace(PROJECTION, frames=frames))
        tensors |= prefixed("image_proj_model.", seed(projection).state_dict())
    if layout == "unet_and_projection":
        return tensors
    autoencoder = build_autoencoder(small_autoencoder_config(variant))
    tensors |= prefixed("first_stage_model.", seed(autoencoder).state_dict())
    tensors |= schedule_buffers(VARIANTS[variant][1])
    if layout in ("full", "deepspeed"):
        tensors |= text_tower()
        if config.image_gate != "none":
            tensors |= vision_tower()
    return tensors


def write_small(
    folder: Path,
    variant: str,
    layout: Layout = "full",
    *,
    name: str | None = None,
    dtype: torch.dtype | None = None,
    towers: bool = True,
) -> Path:
    """Write the variant's file and return its path.

    Args:
        name: of the file, with its ending; by default variant and layout.
        dtype: of all tensors; by default float16 for `pruned`, as it is shared, and float32 otherwise. The towers
            stay as they are, since their views would become whole matrices.
        towers: False cuts the CLIP towers' tensors to a few numbers, where nobody runs them.
    """
    path = folder / (name or f"{variant}_{layout}{SUFFIX.get(layout, '.safetensors')}")
    dtype = dtype or (torch.float16 if layout == "pruned" else torch.float32)

    def stored(key: str, value: Tensor) -> Tensor:
        if key.startswith(("cond_stage_model.", "embedder.")):
            return value if towers else value[(slice(1),) * value.ndim].clone()
        return value.to(dtype)

    tensors = {key: stored(key, value) for key, value in small_tensors(variant, layout).items()}
    if layout == "full":
        torch.save({"state_dict": tensors, "global_step": 10, "pytorch-lightning_version": "1.9.3"}, path)
    elif layout == "deepspeed":
        torch.save({"module": prefixed_views("_forward_module.", tensors), "global_steps": 10}, path)
    else:
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


def is_convolution(name: str) -> bool:
    """Whether LVDM writes this projection as a convolution, with one axis of length one more."""
    return name in ("init_attn.0.proj_in.weight", "init_attn.0.proj_out.weight")


def schedule_buffers(preset: str) -> dict[str, Tensor]:
    """What a checkpoint of LVDM holds besides its networks; only the end of `scale_arr` tells anything."""
    schedule = PRESETS[preset].schedule
    betas = torch.linspace(schedule.beta_start**0.5, schedule.beta_end**0.5, schedule.timesteps) ** 2
    buffers = {"betas": betas, "alphas_cumprod": (1 - betas).cumprod(0), "sqrt_alphas_cumprod": torch.zeros(1000)}
    if schedule.rescale_base is not None:
        buffers["scale_arr"] = signal_scale(schedule).float()
    return buffers


def vision_tower(layers: int = 32) -> dict[str, Tensor]:
    """OpenCLIP's ViT-H/14 image tower as a full checkpoint holds it, with the text leftovers beside it."""
    prefix, width = "embedder.model.visual.", 1280
    tower = {
        "class_embedding": (width,),
        "positional_embedding": (257, width),
        "proj": (width, 1024),
        "conv1.weight": (width, 3, 14, 14),
        **{f"{norm}.{kind}": (width,) for norm in ("ln_pre", "ln_post") for kind in ("weight", "bias")},
    }
    tensors = {prefix + name: noise_view(name, shape) for name, shape in tower.items()}
    left = {"embedder.model.logit_scale": torch.ones(()), "embedder.model.token_embedding.weight": torch.ones(3, 4)}
    return tensors | transformer(f"{prefix}transformer.", layers, width) | left


def text_tower(layers: int = 24) -> dict[str, Tensor]:
    """OpenCLIP's ViT-H/14 text tower as a full checkpoint holds it."""
    prefix, width = "cond_stage_model.model.", 1024
    tower = {
        "token_embedding.weight": (49408, width),
        "positional_embedding": (77, width),
        "text_projection": (width, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
    }
    tensors = {prefix + name: noise_view(name, shape) for name, shape in tower.items()}
    buffers = {f"{prefix}logit_scale": torch.ones(()), f"{prefix}attn_mask": torch.zeros(77, 77)}
    return tensors | transformer(f"{prefix}transformer.", layers, width) | buffers


def transformer(prefix: str, layers: int, width: int) -> dict[str, Tensor]:
    """Layers of OpenCLIP's transformer that share their noise."""
    block = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
        **{f"{norm}.{kind}": (width,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")},
    }
    noise = {name: noise_view(name, shape) for name, shape in block.items()}
    return {f"{prefix}resblocks.{i}.{name}": tensor for i in range(layers) for name, tensor in noise.items()}


def noise_view(name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight whose rows are the same half-precision noise, each shifted by one: large in shape, small in memory."""
    if len(shape) == 1:
        return (
            1 + 0.1 * seeded_normal(name, shape) if name.endswith("weight") else 0.02 * seeded_normal(name, shape)
        ).half()
    fan_in = math.prod(shape[1:])
    noise = (seeded_normal(name, (shape[0] + fan_in,)) / math.sqrt(fan_in)).half()
    inner = torch.empty(shape[1:], device="meta").stride()
    return noise.as_strided(shape, (1, *inner))


def prefixed_views(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, not copies, under a prefix."""
    return {prefix + name: tensor for name, tensor in tensors.items()}
