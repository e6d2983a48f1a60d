"""DynamiCrafter (arXiv:2310.12190, section 3.2) as an adapter: its two ways of the image into a base that has neither.

The text-aligned context: an image projection, and an image stream beside the text in every spatial
cross-attention (equation 4). Visual detail guidance: the image's latent at the first convolution.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from torch import Tensor, nn

from .attention import (
    AttentionFunction,
    DualCrossAttention,
    ImageGate,
    ImageStream,
    scaled_dot_product_attention,
)
from .image_encoder import ImageEncoder, ImageEncoderConfig, initialize_image_encoder
from .image_projection import ImageProjection, ImageProjectionConfig
from .video_unet import VideoUNet
from .visual_detail import added_image_channels


@dataclass(frozen=True)
class VisualDetailConfig:
    """The image's latent for a base without channels for it: its channels, and those of the first convolution."""

    latent_channels: int = 4
    model_channels: int = 320


@dataclass(frozen=True)
class ImageInjectionConfig:
    """The layers that are added to the U-Net.

    Attributes:
        sites: names of the U-Net's cross-attentions, with the width of their queries.
        context_dim: width of the image tokens.
        image_gate: as of `DualCrossAttention`.
        visual_detail: None where the base has channels for the image's latent, or does not see it.
    """

    sites: Mapping[str, int] = field(default_factory=dict)
    context_dim: int = 1024
    image_gate: Literal["fixed", "learned"] = "fixed"
    visual_detail: VisualDetailConfig | None = None


@dataclass(frozen=True)
class ImageAdapterConfig:
    """The parts of the adapter; without an encoder the features of the image come from outside, as CLIP's do."""

    projection: ImageProjectionConfig = field(default_factory=ImageProjectionConfig)
    injection: ImageInjectionConfig = field(default_factory=ImageInjectionConfig)
    encoder: ImageEncoderConfig | None = None


class AddedStream(ImageStream):
    """An image stream that lives outside of the U-Net."""

    def __init__(self, context_dim: int, inner: int, image_gate: ImageGate, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.add_image_layers(context_dim, inner, image_gate, operations, **factory)


class ImageInjection(nn.Module):
    """Image streams within a U-Net; their weights have the names that they have in DynamiCrafter's."""

    def __init__(
        self,
        config: ImageInjectionConfig,
        *,
        operations: Any = nn,
        attention: AttentionFunction | None = None,
        **factory: Any,
    ) -> None:
        super().__init__()
        del attention  # every adapter is built alike, and this one attends by the U-Net's own function
        self.config = config
        for site, inner in config.sites.items():
            stream = AddedStream(config.context_dim, inner, config.image_gate, operations, **factory)
            _place(self, site, stream)
        self.visual_detail: nn.Module | None = None
        if (detail := config.visual_detail) is not None:
            channels = detail.latent_channels, detail.model_channels
            self.visual_detail = added_image_channels(*channels, operations, **factory)

    @property
    def streams(self) -> dict[str, ImageStream]:
        """By the names of the cross-attentions, for `VideoUNet.forward`."""
        return {site: self.get_submodule(site) for site in self.config.sites}  # type: ignore[misc]

    def hint(self, image: Tensor | None) -> Tensor | None:
        """Visual detail added to the first convolution's output, as concatenated input channels would add it.

        Args:
            image: the given image's latent, `b c 1 h w`.

        Returns:
            `b d h w`; None where the base has channels for the image, or does not see it.

        Raises ValueError if there is no image.
        """
        if self.visual_detail is None:
            return None
        if image is None:
            raise ValueError("visual detail guidance needs the given image's latent: conditions.image_latent is None")
        return self.visual_detail(image[:, :, 0])


class ImageAdapter(nn.Module):
    """Image encoder (of our own small models), image projection, and what both add within the U-Net."""

    def __init__(
        self,
        config: ImageAdapterConfig,
        *,
        operations: Any = nn,
        attention: AttentionFunction = scaled_dot_product_attention,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.config = config
        kw = {"operations": operations, **factory}
        self.encoder: ImageEncoder | None = None
        if config.encoder is not None:
            self.encoder = ImageEncoder(config.encoder, attention=attention, **kw)
        self.projection = ImageProjection(config.projection, attention=attention, **kw)
        self.injection = ImageInjection(config.injection, **kw)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Image tokens `b t k d` or `b k d` of pixels in [-1, 1], `b 3 H W`.

        Raises ValueError for an adapter without an encoder.
        """
        if self.encoder is None:
            raise ValueError(
                "this adapter holds no image encoder: give conditions.image_tokens, its projection of the features "
                f"of an image encoder {self.config.projection.image_features} wide"
            )
        return self.projection(self.encoder.encode(pixels))


def find_image_sites(unet: VideoUNet) -> dict[str, int]:
    """The cross-attentions of a U-Net by name, with the width of their queries."""
    return {name: each.inner for name, each in unet.named_modules() if isinstance(each, DualCrossAttention)}


def check_image_sites(config: ImageInjectionConfig, unet: VideoUNet) -> None:
    """Refuse a U-Net to which the adapter does not belong; raises ValueError naming the first mismatch."""
    if unet.config.image_gate != "none" and config.sites:
        raise ValueError("the model has image attention of its own: use the image projection of its file")
    if unet.config.image_gate == "none" and not config.sites:
        raise ValueError("the adapter was trained with a model that has image attention of its own, and this has none")
    sites = find_image_sites(unet)
    for site, inner in config.sites.items():
        if sites.get(site) != inner:
            has = "none" if site not in sites else f"one of width {sites[site]}"
            raise ValueError(f"the adapter has a stream for '{site}' of width {inner}, the model has {has}")
    detail = config.visual_detail
    if detail is not None and detail.model_channels != unet.config.model_channels:
        raise ValueError(
            f"the adapter brings the image to a first convolution of {detail.model_channels} outputs, the model's has "
            f"{unet.config.model_channels}"
        )
    if detail is not None and unet.config.image_channels:
        raise ValueError("the adapter brings the image's latent, and the model has channels for it already")


def initialize_image_adapter(adapter: ImageAdapter) -> None:
    """Prepare a new adapter for training: it adds nothing to the U-Net yet."""
    projection = adapter.projection
    nn.init.normal_(projection.latents, std=projection.config.features**-0.5)
    if adapter.encoder is not None:
        initialize_image_encoder(adapter.encoder)
    for stream in adapter.injection.streams.values():
        nn.init.zeros_(stream.to_v_ip.weight)
        if stream.image_gate == "learned":
            nn.init.zeros_(stream.alpha)
    if adapter.injection.visual_detail is not None:
        nn.init.zeros_(cast(nn.Conv2d, adapter.injection.visual_detail).weight)


def _place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register a module under a dotted name."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in dict(root.named_children()):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)
