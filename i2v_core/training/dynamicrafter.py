"""Training of DynamiCrafter (arXiv:2310.12190, section 3.3): first what brings the image in, then the base along."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..build import build_image_adapter
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
from .adapter import Method, Objective, is_temporal
from .clips import ClipBatch, TimestepConfig, encode_texts, noise_clips
from .image_encoder import trained_image_encoder
from .moving_crops import MovingCrops, MovingCropsConfig


@dataclass(frozen=True)
class DynamiCrafterOptions:
    """What a recipe may choose.

    Attributes:
        stage: 1 trains the adapter alone, 2 the base along with it.
        trained: which weights of the base stage 2 trains: `all` as in the paper, or the layers over time alone.
        drop: share of the clips that lose their text, as many their image, and as many both.
        condition_frame: which frame of the clip is the given image; the paper draws one.
        begin_with: path of an adapter, of stage 1, to go on from.
        encoder_file: where the weights of the adapter's image encoder are, or will be: without that file they are
            trained first, in `encoder_steps`. None leaves the encoder as it is.
        train_encoder: let the image encoder learn with the rest; the paper's is frozen.
    """

    stage: Literal[1, 2] = 1
    trained: Literal["all", "temporal"] = "all"
    drop: float = 0.05
    condition_frame: Literal["first", "random"] = "random"
    begin_with: str | None = None
    encoder_file: str | None = None
    encoder_steps: int = 150
    train_encoder: bool = False
    timesteps: TimestepConfig = field(default_factory=TimestepConfig)

    def draw(self, clips: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Which clips lose their text and which their image, boolean `b` each, from one draw for each clip."""
        fate = torch.rand(clips, generator=generator)
        return fate < 2 * self.drop, (self.drop <= fate) & (fate < 3 * self.drop)


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
    adapter = build_image_adapter(replace(config, projection=projection, injection=injection))
    initialize_image_adapter(adapter)
    return adapter


def objective(checkpoint: Checkpoint, adapter: ImageAdapter, options: DynamiCrafterOptions) -> Objective:
    """Denoise clips given caption and image, of which some are lost before the encoders; the latent stays.

    Raises ValueError if the adapter has no image encoder, or the files to begin with belong to others.
    """
    assert checkpoint.text_encoder is not None  # adapter_task has checked it
    text_encoder, preset = checkpoint.text_encoder, checkpoint.preset
    begin(adapter, options)
    denoiser = replace(Denoiser.of(checkpoint.unet, preset), image_projection=adapter)

    def loss(batch: ClipBatch, generator: torch.Generator) -> Tensor:
        latents, count = batch.latents, len(batch.captions)
        timesteps = options.timesteps.draw(count, preset.schedule.timesteps, generator)
        no_text, no_image = options.draw(count, generator)
        frame = torch.zeros(count, dtype=torch.long)
        if options.condition_frame == "random":
            frame = torch.randint(latents.shape[2], (count,), generator=generator)
        image, latent = (take_frames(clips, frame.to(clips.device)) for clips in (batch.pixels, latents))
        seen = torch.where(no_image.to(image.device)[:, None, None, None], torch.full_like(image, GREY), image)
        conditions = encode_texts(text_encoder, batch.captions, no_text, latent[:, :, None])
        z, wanted = noise_clips(denoiser, latents, timesteps, conditions, generator)
        conditions = replace(conditions, image_tokens=adapter.tokens(seen))
        return F.mse_loss(denoiser.predict(z, timesteps.to(latents.device), conditions).float(), wanted)

    return loss


def begin(adapter: ImageAdapter, options: DynamiCrafterOptions) -> None:
    """Give a new adapter the weights that the options name; raises ValueError if they are another's."""
    if adapter.encoder is None:
        raise ValueError("training needs an adapter with an image encoder: name one in the adapter's configuration")
    if options.encoder_file is not None:
        data = MovingCrops(MovingCropsConfig(frames=1, size=adapter.encoder.config.size))
        picture = partial(_picture, data)
        trained_image_encoder(adapter.encoder, Path(options.encoder_file), picture, options.encoder_steps)
    if options.begin_with is not None:
        contents = read_adapter(options.begin_with)
        if contents.config != adapter.config:
            raise ValueError(f"'{options.begin_with}' holds an adapter of another configuration than the recipe's")
        adapter.load_state_dict(contents.tensors)
    adapter.encoder.requires_grad_(options.train_encoder)


def take_frames(clips: Tensor, frame: Tensor) -> Tensor:
    """Frame number `frame`, `b`, of each clip `b c t h w`; `b c h w`."""
    return clips[torch.arange(len(clips), device=clips.device), :, frame]


def trained_along(name: str, options: DynamiCrafterOptions) -> bool:
    """Whether a weight of the base is trained: none in the first stage."""
    return options.stage == 2 and (options.trained == "all" or is_temporal(name))


def _picture(data: MovingCrops, index: int) -> Tensor:
    return data.clip(index).pixels[:, 0]


DYNAMICRAFTER = Method(
    DynamiCrafterOptions, build, objective, trained_along, learning_rates={"adapter": 1e-4, "unet": 5e-5}
)
