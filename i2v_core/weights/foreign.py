"""Checkpoints of other projects, read into our names: LVDM, ModelScope, diffusers and LDM."""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

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

UNET_PREFIXES = (UNET.prefix, "diffusion_model.", "unet.")
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
    tensors = file.tensors
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
    """Whether a tensor becomes part of the contents; a U-Net without prefix takes all that stands beside nothing."""
    parts = (IMAGE_PROJECTION.prefix, *TEXT_TOWERS, VISION_TOWER)
    if name.startswith(AUTOENCODER.prefix):
        return name.removeprefix(AUTOENCODER.prefix).startswith(AUTOENCODER_PARTS)
    return name.startswith(parts) or (name.startswith(unet_prefix) if unet_prefix else not NOT_UNET.match(name))
