"""DynamiCrafter (arXiv:2310.12190, sections 3.2 and 4.1): image tokens next to the text, and visual detail guidance.

Also the one place where pictures become image tokens, of an adapter's projection or of the checkpoint's own.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor

from ..conditions import Conditions, grey
from ..model.image_injection import (
    ImageAdapter,
    ImageAdapterConfig,
    ImageInjection,
    VisualDetailConfig,
    check_image_sites,
    find_image_sites,
    initialize_image_adapter,
)
from ..model.image_projection import ImageProjection
from ..model.seams import Seams
from ..model.video_unet import VideoUNet
from .method import Base, Method, NetworkCall, Tools, Training, is_temporal

IMAGE_LAYER = re.compile(r"\.attn2\.(to_[kv]_ip\.|alpha$)")  # of a base with image attention of its own


class PictureEncoder(Protocol):
    """Pictures `b 3 h w` in [-1, 1] to features `b n d`."""

    def encode(self, pixels: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class ImageTokens:
    """Pictures to image tokens: image encoder and image projection."""

    projection: ImageProjection
    encoder: PictureEncoder

    def __call__(self, pictures: Tensor) -> Tensor:
        """Image tokens `b t k d` or `b k d` of pictures in [-1, 1], `b 3 h w`."""
        weight = next(self.projection.parameters())
        return self.projection(self.encoder.encode(pictures).to(weight.dtype))  # from autocast's to its own


def outer_projection(base: Base, adapter: ImageAdapter | None) -> ImageProjection | None:
    """The projection that reads an image encoder beside the checkpoint: an adapter's without an encoder, or its own."""
    if adapter is not None:
        return adapter.projection if adapter.encoder is None else None
    return base.image_projection if base.unet.config.image_gate != "none" else None


def image_tokens_of(base: Base, method: "ImageProjectionMethod | None") -> ImageTokens | None:
    """Source of the image tokens of a base with or without an adapter; None where the network attends to none."""
    adapter = None if method is None else method.adapter
    if adapter is not None and adapter.encoder is not None:
        return ImageTokens(adapter.projection, adapter.encoder)
    projection = outer_projection(base, adapter)
    if projection is None or base.image_encoder is None:
        return None
    return ImageTokens(projection, base.image_encoder)


@dataclass(frozen=True)
class DynamiCrafterOptions:
    """Options of a training's configuration.

    Attributes:
        stage: 1 trains the adapter alone, 2 the base jointly.
        trained: which weights of the base stage 2 trains: `all` as in the paper, or those of temporal layers alone.
        begin_with: path of an adapter, of stage 1, to go on from: of an image model, as in the paper (section 4.1), or
            of this base. Without visual detail it goes on as one that has it, where method.adapter asks for that.
        encoder_file: where the weights of the adapter's image encoder are, or will be: without that file they are
            trained first, in `encoder_steps`. None leaves the encoder as it is. It is always frozen, as the paper's.
    """

    stage: Literal[1, 2] = 1
    trained: Literal["all", "temporal"] = "all"
    begin_with: str | None = None
    encoder_file: str | None = None
    encoder_steps: int = 150


def new_adapter(base: Base, config: ImageAdapterConfig) -> ImageAdapter:
    """An adapter at its start: a new one or, where the base brings the image in, its own projection.

    Without an encoder of its own it reads the features of the one beside the base.

    Raises ValueError if there is no image encoder, or for settings where the base has all that an adapter adds.
    """
    own, encoder = base.image_projection, base.image_encoder
    if base.unet.config.image_gate == "none" or own is None:
        if config.encoder is None and encoder is None:
            raise ValueError(
                "training needs an image encoder: describe one in method.adapter.encoder, or name OpenCLIP's file in "
                "model.image_encoder"
            )
        if config.encoder is None and encoder is not None:
            config = replace(config, projection=replace(config.projection, image_features=encoder.config.width))
        return added_adapter(base.unet, config)
    if config != ImageAdapterConfig():
        raise ValueError(
            "this base has an image projection of its own, which goes on learning: leave out method.adapter"
        )
    injection = replace(config.injection, context_dim=base.unet.config.context_dim)
    adapter = ImageAdapter(ImageAdapterConfig(own.config, injection))
    adapter.projection.load_state_dict(own.state_dict())
    return adapter


def added_adapter(unet: VideoUNet, config: ImageAdapterConfig) -> ImageAdapter:
    """An adapter for a base without image attention, which adds nothing yet; what the base decides is taken from it.

    Raises ValueError if visual detail is asked for where the base has channels for it.
    """
    base, encoder, detail = unet.config, config.encoder, config.injection.visual_detail
    if detail is not None:
        if base.image_channels:
            raise ValueError("this base has channels for the given image: leave visual_detail out")
        detail = VisualDetailConfig(base.out_channels, base.model_channels)
    injection = replace(
        config.injection, sites=find_image_sites(unet), context_dim=base.context_dim, visual_detail=detail
    )
    projection = replace(
        config.projection,
        output_features=base.context_dim,
        image_features=config.projection.image_features if encoder is None else encoder.features,
    )
    adapter = ImageAdapter(replace(config, projection=projection, injection=injection))
    initialize_image_adapter(adapter)
    return adapter


def begin(adapter: ImageAdapter, options: DynamiCrafterOptions, tools: Tools) -> None:
    """Give a new adapter the weights that the options name.

    Raises ValueError for files of another adapter or encoder, and for an encoder's where the adapter has none.
    """
    encoder = adapter.encoder
    if encoder is None and options.encoder_file is not None:
        raise ValueError(
            "the image encoder beside the base stays as it is: leave out encoder_file, or describe one of the "
            "adapter's own in method.adapter.encoder"
        )
    if encoder is not None and options.encoder_file is not None:
        tools.train_image_encoder(encoder, Path(options.encoder_file), options.encoder_steps)
    if options.begin_with is not None:
        go_on(adapter, tools.read_adapter(options.begin_with), options.begin_with)
    if encoder is not None:
        encoder.requires_grad_(False)


def go_on(adapter: ImageAdapter, first: Any, path: str) -> None:
    """Load an adapter of the first stage; visual detail that it has not begins with nothing (coarse to fine, 3.2).

    Raises ValueError for one of another configuration.
    """
    coarse = replace(adapter.config, injection=replace(adapter.config.injection, visual_detail=None))
    if first.config not in (adapter.config, coarse):
        raise ValueError(f"'{path}' is of another configuration than method.adapter: {first.config}")
    adapter.load_state_dict({**adapter.state_dict(), **first.tensors})


def trains(name: str, options: DynamiCrafterOptions) -> bool:
    """A weight of the base is trained: in the first stage its own image attention, if it has one."""
    jointly = options.stage == 2 and (options.trained == "all" or is_temporal(name))
    return jointly or IMAGE_LAYER.search(name) is not None


def learning_rates(options: DynamiCrafterOptions) -> dict[str, float]:
    """The paper's rates (section 4.1): the first stage's for what is new, the second one's for everything."""
    rate = 1e-4 if options.stage == 1 else 5e-5
    return {"adapter": rate, "unet": rate}


def usual(base: Any, folder: Any) -> dict[str, Any]:
    """A small projection and encoder for this base, whose encoder is trained in the run's folder."""
    unet = base.unet_config
    projection = {"features": unet.context_dim, "heads": max(1, unet.context_dim // 32), "head_dim": 32}
    projection |= {"depth": 2, "queries": 4, "frames": base.preset.frames}
    injection = {} if unet.image_channels else {"visual_detail": {"latent_channels": unet.out_channels}}
    return {
        "adapter": {"projection": projection, "injection": injection, "encoder": {"size": 64}},
        "options": {"encoder_file": str(folder / "image_encoder.safetensors")},
    }


@dataclass(frozen=True)
class ImageProjectionMethod(Method):
    """Image streams in the cross-attentions (equation 4), and the image's latent at the first convolution.

    Attributes:
        module: what enters the U-Net.
        adapter: the whole, with the projection that makes the tokens; None where they come from outside.
    """

    module: ImageInjection
    adapter: ImageAdapter | None = None

    kind: ClassVar = "image_projection"
    config: ClassVar = ImageAdapterConfig
    build: ClassVar = ImageAdapter
    training: ClassVar = Training(
        names=("dynamicrafter", "image_projection"),
        options=DynamiCrafterOptions,
        new=new_adapter,
        trains=trains,
        learning_rates=learning_rates,
        text_drop=0.05,
        image_drop=0.05,
        drop_mode="exclusive",  # and both are lost with a share of 0.05 too
        data={"frame_stride": 1, "frame_stride_max": 6, "rand_cond_frame": True},
        begin=begin,
        usual=usual,
    )

    @classmethod
    def of(cls, module: ImageAdapter, options: Any = None) -> "ImageProjectionMethod":
        return cls(module.injection, module)

    def check(self, network: VideoUNet) -> None:
        check_image_sites(self.module.config, network)

    def prepare(self, conditions: Conditions) -> Conditions:
        if self.adapter is None or conditions.image_tokens is not None:
            return conditions
        if conditions.image is None:
            raise ValueError("the image projection needs the given image's pixels, got conditions.image None")
        return replace(conditions, image_tokens=self.adapter.tokens(conditions.image))

    def without_image(self, conditions: Conditions, given: Conditions) -> Conditions:
        """Tokens of a grey picture, unless others are there already; the image latent stays."""
        if conditions.image_tokens is None and conditions.image is not None and self.adapter is not None:
            conditions = replace(conditions, image_tokens=self.adapter.tokens(grey(conditions.image)))
        return replace(conditions, image_latent=given.image_latent)

    def seams(self, call: NetworkCall) -> Seams:
        return Seams(hint=self.module.hint(call.conditions.image_latent), image_streams=self.module.streams)
