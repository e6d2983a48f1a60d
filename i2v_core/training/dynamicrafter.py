"""Training of DynamiCrafter (arXiv:2310.12190, section 3.3): first what brings the image in, then the base along."""

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..data.clips import ClipBatch
from ..data.moving_crops import MovingCrops, MovingCropsConfig
from ..denoiser import Denoiser
from ..model.image_injection import (
    GREY,
    ImageAdapter,
    ImageAdapterConfig,
    VisualDetailConfig,
    find_image_sites,
    initialize_image_adapter,
)
from ..model.video_unet import VideoUNet
from ..weights import Checkpoint, read_adapter
from .adapter import Method, is_temporal
from .draws import Draws
from .image_encoder import trained_image_encoder
from .lesson import ClipLosses, Lesson

IMAGE_LAYER = re.compile(r"\.attn2\.(to_[kv]_ip\.|alpha$)")  # of a base with image attention of its own


@dataclass(frozen=True)
class DynamiCrafterOptions:
    """What a configuration may choose.

    Attributes:
        stage: 1 trains the adapter alone, 2 the base along with it.
        trained: which weights of the base stage 2 trains: `all` as in the paper, or the layers over time alone.
        begin_with: path of an adapter, of stage 1, to go on from.
        encoder_file: where the weights of the adapter's image encoder are, or will be: without that file they are
            trained first, in `encoder_steps`. None leaves the encoder as it is.
        train_encoder: let the image encoder learn with the rest; the paper's is frozen.
    """

    stage: Literal[1, 2] = 1
    trained: Literal["all", "temporal"] = "all"
    begin_with: str | None = None
    encoder_file: str | None = None
    encoder_steps: int = 150
    train_encoder: bool = False


def build(unet: VideoUNet, config: ImageAdapterConfig) -> ImageAdapter:
    """An adapter at its start, which adds nothing: all that the base decides is taken from it.

    Raises ValueError if visual detail is asked for where the base has channels for it.
    """
    base, encoder, detail = unet.config, config.encoder, config.injection.visual_detail
    if detail is not None:
        if base.in_channels != base.out_channels:
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


def beside(checkpoint: Checkpoint, config: ImageAdapterConfig) -> ImageAdapter:
    """An adapter at its start beside a base: a new one or, where the base brings the image in, its own projection.

    Without an encoder of its own it reads the features of the one beside the base.

    Raises ValueError if there is no image encoder, or for settings where the base has all that an adapter adds.
    """
    own, encoder = checkpoint.image_projection, checkpoint.image_encoder
    if checkpoint.unet.config.image_gate == "none" or own is None:
        if config.encoder is None and encoder is None:
            raise ValueError(
                "training needs an image encoder: describe one in method.adapter.encoder, or name OpenCLIP's file in "
                "model.image_encoder"
            )
        if config.encoder is None and encoder is not None:
            config = replace(config, projection=replace(config.projection, image_features=encoder.config.width))
        return build(checkpoint.unet, config)
    if config != ImageAdapterConfig():
        raise ValueError(
            "this base has an image projection of its own, which goes on learning: leave out method.adapter"
        )
    injection = replace(config.injection, context_dim=checkpoint.unet.config.context_dim)
    adapter = ImageAdapter(ImageAdapterConfig(own.config, injection))
    adapter.projection.load_state_dict(own.state_dict())
    return adapter


def loss(lesson: Lesson, batch: ClipBatch, draws: Draws) -> ClipLosses:
    """Denoise clips given caption and image; a lost image is mid-grey for the image encoder, its latent stays.

    Which frame of a clip is the given image, the paper's random one or the first, is the data's to say.
    """
    timesteps, lost = lesson.timesteps(draws), lesson.lost(draws)
    grey = torch.full_like(batch.image, GREY)
    seen = torch.where(lost.image.to(batch.image.device)[:, None, None, None], grey, batch.image)
    conditions = lesson.conditions(batch, lost)
    z, wanted = lesson.noised(batch.latents, timesteps, conditions, draws)
    output = lesson.predict(z, timesteps, replace(conditions, image_tokens=lesson.image_tokens(seen)))
    return lesson.losses(output, wanted, timesteps, lost)


def begin(denoiser: Denoiser, options: DynamiCrafterOptions) -> Denoiser:
    """Give a new adapter the weights that the options name.

    Raises ValueError for files of another adapter or encoder, and for an encoder's where the adapter has none.
    """
    adapter = denoiser.image_projection
    assert adapter is not None
    if adapter.encoder is None and (options.encoder_file is not None or options.train_encoder):
        raise ValueError(
            "the image encoder beside the base stays as it is: leave out encoder_file and train_encoder, or describe "
            "one of the adapter's own in method.adapter.encoder"
        )
    if adapter.encoder is not None and options.encoder_file is not None:
        pictures = MovingCrops(MovingCropsConfig(frames=1, size=adapter.encoder.config.size))
        picture = partial(_picture, pictures)
        trained_image_encoder(adapter.encoder, Path(options.encoder_file), picture, options.encoder_steps)
    if options.begin_with is not None:
        contents = read_adapter(options.begin_with)
        if contents.config != adapter.config:
            raise ValueError(
                f"'{options.begin_with}' is of another configuration than method.adapter: {contents.config}"
            )
        adapter.load_state_dict(contents.tensors)
    if adapter.encoder is not None:
        adapter.encoder.requires_grad_(options.train_encoder)
    return denoiser


def trained_along(name: str, options: DynamiCrafterOptions) -> bool:
    """Whether a weight of the base is trained: in the first stage its own image attention, if it has one."""
    return IMAGE_LAYER.search(name) is not None or (
        options.stage == 2 and (options.trained == "all" or is_temporal(name))
    )


def _picture(data: MovingCrops, index: int) -> Tensor:
    return data.clip(index).pixels[:, 0]


DYNAMICRAFTER = Method(
    kind="image_projection",
    options=DynamiCrafterOptions,
    build=build,
    loss=loss,
    trained_along=trained_along,
    prepare=begin,
    learning_rates={"adapter": 1e-4, "unet": 5e-5},
    text_drop=0.05,  # the paper's fates exclude each other: conditioning.drop_mode = "exclusive", both_drop = 0.05
    image_drop=0.05,
    beside=beside,
)
