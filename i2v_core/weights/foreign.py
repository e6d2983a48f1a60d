"""Checkpoints of other projects, read into our names: LVDM, ModelScope, diffusers and LDM."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from torch import Tensor

from ..model.video_unet import VideoUNet, VideoUNetConfig
from ..presets import PRESETS
from . import key_maps
from .contents import AUTOENCODER, IMAGE_PROJECTION, UNET, CheckpointContents, Tensors, below, check_part
from .files import CheckpointError, TensorFile
from .recognize import (
    Dialect,
    dialect_of,
    indistinguishable,
    recognize_autoencoder,
    recognize_image_projection,
    recognize_preset,
    recognize_unet,
    with_default_fps,
)
from .refusals import looks_like
from .wrappers import outer_prefix

UNET_PREFIXES = (UNET.prefix, "diffusion_model.", "unet.")
AVERAGE, AVERAGED_UNET = "model_ema.", "diffusion_model"  # what LDM's average is called, and of what it is
EVERY_UNET_HAS = ("time_embed.0.weight", "time_embedding.linear_1.weight")  # by LVDM's names, by diffusers'
TEXT_TOWERS = ("cond_stage_model.model.", "cond_stage_model.transformer.")
VISION_TOWER = "embedder.model.visual."
AUTOENCODER_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
# What stands beside a U-Net without prefix; half-precision copies of schedules are worthless and recomputed.
NOT_UNET = re.compile(
    r"(image_proj_model|first_stage_model|cond_stage_model|embedder|model_ema)\."
    r"|(alphas_cumprod|sqrt_|log_|posterior_)\w*$|(betas|scale_arr|scale_factor|logvar)$"
)
# ToonCrafter's decoder, a video network of its own.
VIDEO_DECODER = re.compile(r"decoder\..*(time_stack|time_mix_conv|mix_factor|attn_refinement)")


def read_foreign(file: TensorFile, preset: str | None) -> CheckpointContents:
    """Recognize a foreign checkpoint; tensors that belong to none of its networks are left aside.

    Args:
        preset: name of the preset, where names and shapes do not tell or tell wrongly.

    Raises CheckpointError if it is none of the known dialects, or incomplete.
    """
    tensors = _without_wrapper(file.tensors)
    prefix = next((prefix for prefix in UNET_PREFIXES if any(name.startswith(prefix) for name in tensors)), "")
    dialect, unet = _unet(tensors, prefix)
    config = recognize_unet(unet)
    first_stage = below(tensors, AUTOENCODER.prefix)
    video_decoder = any(VIDEO_DECODER.match(name) for name in first_stage)
    scale_table = tensors.get("scale_arr")
    if preset is None:
        known = recognize_preset(config, unet, scale_table, video_decoder)
        alternatives = indistinguishable(known, scale_table)
    else:
        known, alternatives = PRESETS[preset], ()
    config = with_default_fps(config, known)
    image_projection = below(tensors, IMAGE_PROJECTION.prefix)
    image_projection_config = recognize_image_projection(image_projection) if image_projection else None
    if image_projection_config is not None:
        shared = image_projection_config.frames is None
        config = replace(config, image_token_layout="shared" if shared else "per_frame")
        check_part(IMAGE_PROJECTION, image_projection_config, image_projection)
    check_part(UNET, config, unet)
    autoencoder = _autoencoder(first_stage)
    autoencoder_config = recognize_autoencoder(autoencoder) if autoencoder else None
    if autoencoder_config is not None:
        check_part(AUTOENCODER, autoencoder_config, autoencoder)
    text = next((found for prefix in TEXT_TOWERS if (found := below(tensors, prefix))), None)
    return CheckpointContents(
        dialect=dialect,
        preset=known,
        unet_config=config,
        unet=unet,
        image_projection_config=image_projection_config,
        image_projection=image_projection or None,
        autoencoder_config=autoencoder_config,
        autoencoder=autoencoder or None,
        clip_text=text,
        clip_vision=below(tensors, VISION_TOWER) or None,
        alternatives=alternatives,
        left_aside=tuple(name for name in tensors if not _used(name, prefix)),
        metadata=file.metadata,
    )


def linear_projections(unet: Mapping[str, Tensor]) -> Tensors:
    """Drop the trailing axes of length one of the projections that some dialects write as convolutions."""
    return {
        name: tensor.flatten(1)
        if name.endswith((".proj_in.weight", ".proj_out.weight")) and set(tensor.shape[2:]) == {1}
        else tensor
        for name, tensor in unet.items()
    }


def _without_wrapper(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors with the U-Net's under a prefix that we know: from below a trainer's module, or from its average."""
    if any(name.startswith(UNET_PREFIXES) for name in tensors) or dialect_of(tensors):
        return tensors
    if averaged := below(tensors, AVERAGE + AVERAGED_UNET):
        return dict(tensors) | {UNET.prefix + _from_average(name): tensor for name, tensor in averaged.items()}
    for inner in (prefix + name for prefix in (*UNET_PREFIXES, "") for name in EVERY_UNET_HAS):
        if outer := outer_prefix(tensors, inner):
            new = UNET.prefix if inner in EVERY_UNET_HAS else ""
            return {
                new + name.removeprefix(outer) if name.startswith(outer) else name: tensor
                for name, tensor in tensors.items()
            }
    return tensors


def _from_average(name: str) -> str:
    return name[1:] if name.startswith(".") else key_maps.from_mangled(name, unet_words())


@lru_cache(maxsize=1)
def unet_words() -> frozenset[str]:
    """Every component of a U-Net's names that is no number, from a small one with every mechanism."""
    small = VideoUNetConfig(
        model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(0, 1), head_dim=32,
        relative_position=2, image_gate="learned", fps_embedding=True, pooled_text_dim=4,
    )  # fmt: skip
    names = VideoUNet(small, device="meta").state_dict()
    return frozenset({word for name in names for word in name.split(".") if not word.isdigit()} | {"framestride_embed"})


def _unet(tensors: Mapping[str, Tensor], prefix: str) -> tuple[Dialect, Tensors]:
    unet = below(tensors, prefix)
    if not prefix:
        unet = {name: tensor for name, tensor in unet.items() if not NOT_UNET.match(name)}
    dialect = dialect_of(unet)
    if kind := looks_like(tensors if dialect is None else unet):
        raise CheckpointError(
            f"it looks like {kind}; expected a checkpoint of this pack, LVDM, ModelScope, diffusers or "
            "Stable Diffusion 1.5 or 2.1"
        )
    if dialect is None:
        first = next(iter(tensors), None)
        arrived = f"its {len(tensors)} tensors start with '{first}'" if first else "it holds no tensors"
        raise CheckpointError(
            f"no U-Net was found in it, {arrived}; expected a checkpoint of this pack, LVDM, ModelScope, "
            "diffusers or Stable Diffusion 1.5 or 2.1"
        )
    if dialect == "diffusers":
        try:
            layout = key_maps.diffusers_layout(unet)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        unet = {key_maps.from_diffusers(name, layout): tensor for name, tensor in unet.items()}
    elif dialect == "modelscope":
        unet = {key_maps.from_modelscope(name): tensor for name, tensor in unet.items()}
    else:
        unet = {key_maps.from_lvdm(name): tensor for name, tensor in unet.items()}
    return dialect, linear_projections(unet)


def _autoencoder(first_stage: Mapping[str, Tensor]) -> Tensors:
    """The autoencoder alone, without what its training left beside it."""
    return {name: tensor for name, tensor in first_stage.items() if name.startswith(AUTOENCODER_PARTS)}


def _used(name: str, unet_prefix: str) -> bool:
    """A tensor becomes part of the contents; a U-Net without prefix takes all that stands beside nothing."""
    parts = (IMAGE_PROJECTION.prefix, *TEXT_TOWERS, VISION_TOWER)
    if name.startswith(AUTOENCODER.prefix):
        return name.removeprefix(AUTOENCODER.prefix).startswith(AUTOENCODER_PARTS)
    return name.startswith(parts) or (name.startswith(unet_prefix) if unet_prefix else not NOT_UNET.match(name))
