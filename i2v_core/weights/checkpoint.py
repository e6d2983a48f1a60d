"""Checkpoints in and out: one file to networks, and networks to one file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..decoding import shown
from ..diffusion.schedule import signal_scale
from ..files import StrPath
from ..model.autoencoder import Autoencoder
from ..model.image_projection import ImageProjection
from ..model.patch_autoencoder import PatchAutoencoder
from ..model.text_encoder import TextEncoder
from ..model.video_unet import VideoUNet
from ..presets import PRESETS, Preset
from .companions.autoencoder import load_autoencoder
from .companions.image import ClipImageEncoder, load_image_encoder, make_image_encoder
from .companions.known import AUTOENCODER, IMAGE_ENCODER, TEXT_ENCODER
from .companions.text import ClipTextEncoder, load_text_encoder, make_text_encoder
from .configs import decode_config, read_description, with_packed_header
from .contents import AUTOENCODER as AUTOENCODER_PART
from .contents import PARTS, CheckpointContents, NetworkPart, Tensors, below, check_finite, check_part
from .files import CheckpointError, TensorFile, read_tensors, write_tensors
from .foreign import TEXT_TOWERS, VISION_TOWER, linear_projections, read_foreign
from .recognize import Dialect

FORMAT, MISSING = "1", "missing_autoencoder"


@dataclass(frozen=True)
class Checkpoint:
    """The networks of one weights file and of those beside it, ready to run, and what they were trained on."""

    unet: VideoUNet
    image_projection: ImageProjection | None
    autoencoder: Autoencoder | PatchAutoencoder | None
    text_encoder: TextEncoder | ClipTextEncoder | None
    preset: Preset
    dialect: Dialect
    metadata: dict[str, str]
    image_encoder: ClipImageEncoder | None = None


def read_checkpoint(path: StrPath, *, preset: str | None = None, described: bool = False) -> CheckpointContents:
    """Read a weights file, or a diffusers folder, of any known dialect, without building its networks.

    Args:
        preset: name in `PRESETS`, where the weights of another project do not tell theirs: without schedule
            tables DynamiCrafter 1024 looks like 512, and the interpolation model always does. It also takes the place
            of the one that a file of ours names.
        described: what is larger than a vector gets no numbers, only shape and kind; enough to describe the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such preset.
        CheckpointError: the file cannot be used; one sentence says why and what to do.
    """
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"there is no preset '{preset}'; choose one of {', '.join(PRESETS)}")
    try:
        file = with_packed_header(read_tensors(path, described=described))
        own = "i2v.kind" in file.metadata
        contents = _read_own(file) if own else read_foreign(file, preset)
        if not described:
            for part in PARTS:
                check_finite(getattr(contents, part.name) or {})
    except CheckpointError as error:
        raise CheckpointError(f"Cannot load '{Path(path).name}': {error}") from error
    return contents if preset is None or not own else replace(contents, preset=PRESETS[preset])


def load_checkpoint(
    path: StrPath,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    preset: str | None = None,
    vae: StrPath | None = None,
    text_encoder: StrPath | None = None,
    image_encoder: StrPath | None = None,
    towers: bool = True,
) -> Checkpoint:
    """Read a weights file and build its networks, in evaluation mode.

    Args:
        dtype: of all weights; None means float32, whatever the file has, because it runs everywhere.
        preset: as in `read_checkpoint`.
        vae, text_encoder, image_encoder: files that bring these networks instead of the checkpoint's own.
        towers: also build the CLIP towers that a full checkpoint holds, a billion weights with ViT-H/14.

    Raises:
        FileNotFoundError, CheckpointError: as `read_checkpoint`, for each of the files.
        ValueError: there is no such preset, or a companion belongs to another model.
        ImportError: there is a CLIP tower to build and the transformers library is missing.
    """
    contents, dtype = read_checkpoint(path, preset=preset), dtype or torch.float32
    networks: dict[str, Any] = {part.name: _network(part, contents, device, dtype) for part in PARTS}
    if vae is not None:
        networks["autoencoder"] = load_autoencoder(vae, device=device, dtype=dtype)
    if text_encoder is not None:
        networks["text_encoder"] = load_text_encoder(text_encoder, device=device, dtype=dtype)
    elif towers and contents.clip_text is not None and contents.text_encoder is None:
        networks["text_encoder"] = make_text_encoder(contents.clip_text, device=device, dtype=dtype)
    if image_encoder is not None:
        networks["image_encoder"] = load_image_encoder(image_encoder, device=device, dtype=dtype)
    elif towers and contents.clip_vision is not None:
        networks["image_encoder"] = make_image_encoder(contents.clip_vision, device=device, dtype=dtype)
    checkpoint = Checkpoint(
        **networks, preset=contents.preset, dialect=contents.dialect, metadata=dict(contents.metadata)
    )
    _check_companions(checkpoint)
    return checkpoint


def save_checkpoint(
    path: StrPath,
    checkpoint: Checkpoint | CheckpointContents,
    *,
    dialect: Literal["i2v", "lvdm"] = "i2v",
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a checkpoint as safetensors; the file appears complete or not at all.

    Args:
        dialect: `lvdm` writes projections as convolutions where LVDM and Stable Diffusion 1.5 do, and the
            rescale table, so that programs for those read the file too.
        metadata: further entries of the header.
        dtype: of all weights; None keeps them as they are.

    Raises OSError if the folder or the disk refuses.
    """
    contents = _contents(checkpoint) if isinstance(checkpoint, Checkpoint) else checkpoint
    unet = _lvdm_shapes(contents) if dialect == "lvdm" else contents.unet
    tensors: Tensors = {}
    for part in PARTS:
        found = unet if part.name == "unet" else getattr(contents, part.name)
        tensors |= {part.prefix + name: tensor for name, tensor in (found or {}).items()}
    if contents.clip_text is not None:
        open_clip = any(name.startswith("transformer.resblocks.") for name in contents.clip_text)
        tensors |= {TEXT_TOWERS[not open_clip] + name: tensor for name, tensor in contents.clip_text.items()}
    tensors |= {VISION_TOWER + name: tensor for name, tensor in (contents.clip_vision or {}).items()}
    if dtype is not None:
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    if dialect == "lvdm" and contents.preset.schedule.rescale_base is not None:
        tensors["scale_arr"] = signal_scale(contents.preset.schedule).float()
    write_tensors(path, tensors, header(contents, dialect, metadata or {}))


def _network(
    part: NetworkPart, contents: CheckpointContents, device: torch.device | str, dtype: torch.dtype
) -> nn.Module | None:
    config = getattr(contents, f"{part.name}_config")
    if config is None:
        return None
    network = part.build(config, device="meta", dtype=dtype)
    # Copies, so that nothing holds on to the file, which may be replaced while the network lives.
    owned = {
        name: tensor.to(device=device, dtype=dtype, copy=True) for name, tensor in getattr(contents, part.name).items()
    }
    network.load_state_dict(owned, assign=True)
    return network.eval()


def _check_companions(checkpoint: Checkpoint) -> None:
    """Raise ValueError for a companion whose latents or tokens do not fit the checkpoint's networks."""
    unet, text, image = checkpoint.unet.config, checkpoint.text_encoder, checkpoint.image_encoder
    if checkpoint.autoencoder is not None:
        channels = checkpoint.autoencoder.config.latent_channels
        if channels != unet.out_channels:
            raise ValueError(AUTOENCODER.mismatch(channels, unet.out_channels, "latent channels"))
    if isinstance(text, ClipTextEncoder) and text.config.width != unet.context_dim:
        raise ValueError(TEXT_ENCODER.mismatch(text.config.width, unet.context_dim, "features for each token"))
    if image is not None and checkpoint.image_projection is not None:
        needed = checkpoint.image_projection.config.image_features
        if image.config.width != needed:
            raise ValueError(IMAGE_ENCODER.mismatch(image.config.width, needed, "features for each token"))


def _read_own(file: TensorFile) -> CheckpointContents:
    kind, version = file.metadata["i2v.kind"], file.metadata.get("i2v.format")
    if kind != "checkpoint":
        raise CheckpointError(f"it is an adapter of this pack ({shown(kind)}); load it with I2V Load Adapter")
    if version != FORMAT:
        raise CheckpointError(f"it has format {shown(version)} and this version reads {FORMAT}; update this pack")
    configs = read_description(file.metadata)
    preset = decode_config((Preset,), configs.get("preset"))
    rest, fields = dict(file.tensors), dict[str, Any]()
    for part in PARTS:
        values = configs.get(part.name)
        if values is None:
            continue
        config, tensors = decode_config(part.configs, values), below(rest, part.prefix)
        if part.name == "unet":
            tensors = linear_projections(tensors)
        check_part(part, config, tensors)
        fields |= {part.name: tensors, f"{part.name}_config": config}
        rest = {name: tensor for name, tensor in rest.items() if not name.startswith(part.prefix)}
    if "unet" not in fields:
        raise CheckpointError("its header has no configuration of a U-Net")
    if (values := configs.get(MISSING)) is not None:
        fields[MISSING] = decode_config(AUTOENCODER_PART.configs, values)
    text = next((found for prefix in TEXT_TOWERS if (found := below(rest, prefix))), None)
    return CheckpointContents(
        dialect="lvdm" if file.metadata.get("i2v.dialect") == "lvdm" else "i2v",
        preset=preset,
        **fields,
        clip_text=text,
        clip_vision=below(rest, VISION_TOWER) or None,
        metadata=file.metadata,
    )


def _contents(checkpoint: Checkpoint) -> CheckpointContents:
    fields = dict[str, Any]()
    for part in PARTS:
        network = getattr(checkpoint, part.name)
        # A CLIP tower is written from what was read, see `CheckpointContents.clip_text`.
        if network is not None and isinstance(network.config, part.configs):
            fields |= {part.name: network.state_dict(), f"{part.name}_config": network.config}
    return CheckpointContents(
        dialect=checkpoint.dialect, preset=checkpoint.preset, **fields, metadata=checkpoint.metadata
    )


def _lvdm_shapes(contents: CheckpointContents) -> Tensors:
    """LVDM has the first temporal transformer's projections as Conv1d, Stable Diffusion 1.5 all as Conv2d."""
    prefix, axes = ("", 4) if contents.unet_config.num_heads is not None else ("init_attn.", 3)

    def shaped(name: str, tensor: Tensor) -> Tensor:
        projection = name.startswith(prefix) and name.endswith((".proj_in.weight", ".proj_out.weight"))
        return tensor.reshape(*tensor.shape, *[1] * (axes - tensor.ndim)) if projection else tensor

    return {name: shaped(name, tensor) for name, tensor in contents.unet.items()}


def header(contents: CheckpointContents, dialect: str, further: Mapping[str, str]) -> dict[str, str]:
    """Safetensors metadata for networks of these configurations; what the file had stays unless it is said anew."""
    preset = contents.preset
    configs = {part.name: getattr(contents, f"{part.name}_config") for part in PARTS}
    described = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "lvdm-video-unet",
        "modelspec.implementation": "i2v_core",
        "modelspec.title": preset.name,
        "modelspec.description": preset.source,
        "modelspec.license": preset.license,
        "modelspec.resolution": f"{preset.width}x{preset.height}",
        "modelspec.prediction_type": {"eps": "epsilon"}.get(preset.prediction, preset.prediction),
    }
    identity = {
        "i2v.kind": "checkpoint",
        "i2v.format": FORMAT,
        "i2v.dialect": dialect,
        "i2v.config": json.dumps(
            {name: None if config is None else asdict(config) for name, config in configs.items()}
            | {"preset": asdict(preset)}
            | ({MISSING: asdict(contents.missing_autoencoder)} if contents.missing_autoencoder else {})
        ),
    }
    return described | dict(contents.metadata) | dict(further) | identity


def lacking_parts(checkpoint: Checkpoint) -> list[str]:
    """A sentence for each network that a checkpoint needs to run and has not, with the file that brings it."""
    unet, lacking = checkpoint.unet.config, []
    if checkpoint.autoencoder is None:
        lacking.append(AUTOENCODER.missing(unet.out_channels))
    if checkpoint.text_encoder is None:
        lacking.append(TEXT_ENCODER.missing(unet.context_dim))
    if unet.image_gate != "none" and checkpoint.image_projection is None:
        lacking.append("this file holds no image projection: take a full or pruned file of this very model")
    elif unet.image_gate != "none" and checkpoint.image_projection is not None and checkpoint.image_encoder is None:
        lacking.append(IMAGE_ENCODER.missing(checkpoint.image_projection.config.image_features))
    return lacking
