"""What a checkpoint holds, as tensors with their configurations, before any module is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..model.autoencoder import Autoencoder, AutoencoderConfig
from ..model.dual_reference_decoder import DualReferenceAutoencoder, DualReferenceConfig
from ..model.image_projection import ImageProjection, ImageProjectionConfig
from ..model.patch_autoencoder import PatchAutoencoder, PatchAutoencoderConfig
from ..model.text_encoder import TextEncoder, TextEncoderConfig
from ..model.video_unet import VideoUNet, VideoUNetConfig
from ..presets import Preset
from .files import CheckpointError
from .recognize import Dialect
from .refusals import list_names

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class CheckpointContents:
    """Everything in one weights file, whatever its dialect.

    Attributes:
        dialect: whose names and shapes the file had.
        preset: what the weights do not say.
        alternatives: names of other presets that the file could as well belong to, since it does not tell.
        left_aside: names of the file's tensors that belong to no part, such as buffers of schedules.
        unet: by our (LVDM's) names without prefix, projections Linear-shaped; the other parts by LDM's names.
        text_encoder: our own small one only.
        clip_text, clip_vision: towers of full checkpoints, with their own names, for the host's loaders.
        metadata: text of the file's header.
    """

    dialect: Dialect
    preset: Preset
    unet_config: VideoUNetConfig
    unet: Tensors
    image_projection_config: ImageProjectionConfig | None = None
    image_projection: Tensors | None = None
    autoencoder_config: AutoencoderConfig | PatchAutoencoderConfig | None = None
    autoencoder: Tensors | None = None
    text_encoder_config: TextEncoderConfig | None = None
    text_encoder: Tensors | None = None
    clip_text: Tensors | None = None
    clip_vision: Tensors | None = None
    alternatives: tuple[str, ...] = ()
    left_aside: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One network of a checkpoint: its field in `CheckpointContents`, its prefix in a file, its builder.

    Its configuration is of one of the types `configs`, told apart by the names of their fields.
    """

    name: str
    prefix: str
    configs: tuple[type[Any], ...]
    build: Callable[..., nn.Module]


def build_autoencoder(
    config: AutoencoderConfig | PatchAutoencoderConfig,
    *,
    operations: Any = nn,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Autoencoder | PatchAutoencoder:
    """Build the image autoencoder of a configuration: Stable Diffusion's kind, ToonCrafter's, or our small one's."""
    with torch.device(device or "cpu"):
        if isinstance(config, PatchAutoencoderConfig):
            return PatchAutoencoder(config, operations=operations).to(dtype=dtype)
        if isinstance(config, DualReferenceConfig):
            return DualReferenceAutoencoder(config, operations=operations).to(dtype=dtype)
        return Autoencoder(config, operations=operations).to(dtype=dtype)


UNET = Part("unet", "model.diffusion_model.", (VideoUNetConfig,), VideoUNet)
IMAGE_PROJECTION = Part("image_projection", "image_proj_model.", (ImageProjectionConfig,), ImageProjection)
AUTOENCODER = Part(
    "autoencoder",
    "first_stage_model.",
    (AutoencoderConfig, PatchAutoencoderConfig, DualReferenceConfig),
    build_autoencoder,
)
TEXT_ENCODER = Part("text_encoder", "cond_stage_model.", (TextEncoderConfig,), TextEncoder)
PARTS = (UNET, IMAGE_PROJECTION, AUTOENCODER, TEXT_ENCODER)


def below(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """The tensors under a prefix, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def check_part(part: Part, config: Any, tensors: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and kind of the tensors with the network of this configuration.

    Raises CheckpointError naming the first few missing, unexpected or misshapen tensors, and their number.
    """
    label = part.name.replace("_", " ")
    try:
        wanted = part.build(config, device="meta").state_dict()
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise CheckpointError(f"no {label} can be built as it asks for: {error}") from error
    problems = []
    if missing := wanted.keys() - tensors.keys():
        problems.append(f"{len(missing)} weights are missing: {list_names(missing)}")
    if unexpected := tensors.keys() - wanted.keys():
        problems.append(f"{len(unexpected)} weights are unexpected: {list_names(unexpected)}")
    common = wanted.keys() & tensors.keys()
    if wrong := sorted(name for name in common if tensors[name].shape != wanted[name].shape):
        name = wrong[0]
        problems.append(
            f"{len(wrong)} weights have another shape, first '{name}': expected {tuple(wanted[name].shape)}, "
            f"got {tuple(tensors[name].shape)}"
        )
    if integers := [name for name in common if not tensors[name].is_floating_point()]:
        problems.append(f"{len(integers)} weights are no floating-point numbers: {list_names(integers)}")
    if problems:
        raise CheckpointError(f"its {label} is not complete and exact: {'; '.join(problems)}")
