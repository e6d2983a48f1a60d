"""Contents of a checkpoint, as tensors with their configurations, before any module is built."""

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
SPARE_LAYERS = 256


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
        missing_autoencoder: configuration of the autoencoder that the U-Net was trained on, where the file lacks it.
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
    missing_autoencoder: AutoencoderConfig | PatchAutoencoderConfig | None = None
    text_encoder_config: TextEncoderConfig | None = None
    text_encoder: Tensors | None = None
    clip_text: Tensors | None = None
    clip_vision: Tensors | None = None
    alternatives: tuple[str, ...] = ()
    left_aside: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def latents_config(self) -> AutoencoderConfig | PatchAutoencoderConfig | None:
        """Configuration of the autoencoder whose latents the U-Net makes, if the file tells it."""
        return self.autoencoder_config or self.missing_autoencoder


@dataclass(frozen=True)
class NetworkPart:
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


UNET = NetworkPart("unet", "model.diffusion_model.", (VideoUNetConfig,), VideoUNet)
IMAGE_PROJECTION = NetworkPart("image_projection", "image_proj_model.", (ImageProjectionConfig,), ImageProjection)
AUTOENCODER = NetworkPart(
    "autoencoder",
    "first_stage_model.",
    (AutoencoderConfig, PatchAutoencoderConfig, DualReferenceConfig),
    build_autoencoder,
)
TEXT_ENCODER = NetworkPart("text_encoder", "cond_stage_model.", (TextEncoderConfig,), TextEncoder)
PARTS = (UNET, IMAGE_PROJECTION, AUTOENCODER, TEXT_ENCODER)


def below(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """The tensors under a prefix, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


class LimitedLayers:
    """The layers of `torch.nn`, of which no more are built than a file can fill; the same `operations` as any other.

    A description may ask for a hundred million blocks: building stops where the tensors end.
    """

    def __init__(self, most: int) -> None:
        self.left = most

    def __getattr__(self, name: str) -> Any:
        layer = getattr(nn, name)
        if name == "Conv3d":  # the U-Net derives from it; other layers of every block are counted
            return layer

        def build(*args: Any, **kwargs: Any) -> nn.Module:
            self.left -= 1
            if self.left < 0:
                raise CheckpointError("it describes many more layers than there are tensors")
            return layer(*args, **kwargs)

        return build


def check_part(part: NetworkPart, config: Any, tensors: Mapping[str, Tensor], *, limited: bool = True) -> None:
    """Compare names, shapes and kind of the tensors with the network of this configuration.

    Args:
        limited: the network takes `operations`, so that it is built only as far as the tensors go.

    Raises CheckpointError naming the first few missing, unexpected or misshapen tensors, and their number.
    """
    label = part.name.replace("_", " ")
    # A layer has at least one tensor; what is missing up to a few is worth to be named.
    layers = {"operations": LimitedLayers(2 * len(tensors) + SPARE_LAYERS)} if limited else {}
    try:
        wanted = part.build(config, device="meta", **layers).state_dict()
    except CheckpointError:
        raise
    except (ValueError, RuntimeError, ArithmeticError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"no {label} can be built as it asks for: {reason}") from error
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


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are no numbers, from which a network makes nothing but black frames.

    One pass over the tensors: a sum is finite where all of its terms are, unless it overflows, and then the extremes
    tell. Those on the device "meta", which were only described, are passed over. Raises CheckpointError naming one.
    """
    for name, tensor in tensors.items():
        if tensor.is_meta or not tensor.is_floating_point() or tensor.itemsize < 2:
            continue
        if not tensor.sum().isfinite() and not torch.stack(tensor.aminmax()).isfinite().all():
            count = int((~tensor.isfinite()).sum())
            raise CheckpointError(
                f"{count} of the {tensor.numel()} numbers of its '{name}' are infinite or none (NaN): the file is "
                "damaged, or its training had diverged"
            )
