"""Training of look-back: "Implicit Semi-auto-regressive Image-to-Video Diffusion", Algorithm 2 and equation 2."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..build import build_look_back
from ..denoiser import Denoiser
from ..diffusion.initialization import Initialization, first_input, frames_in_loss
from ..model.look_back import LookBack, LookBackConfig, find_sites, initialize_look_back
from ..model.video_unet import VideoUNet
from ..weights import Checkpoint
from .adapter import Method, Objective
from .clips import ClipBatch, TimestepConfig, drop, encode_texts, noise_clips


@dataclass(frozen=True)
class LookBackOptions:
    """What a recipe may choose.

    Attributes:
        initialization: what the network sees of the first frame.
        trained_along: beginnings of the names of the base's weights that are trained too.
        text_drop: share of the clips that lose their text.
        timesteps: how noisy the clips are.
    """

    initialization: Initialization = "hybrid"
    trained_along: tuple[str, ...] = ()
    text_drop: float = 0.1
    timesteps: TimestepConfig = field(default_factory=TimestepConfig)


def build(unet: VideoUNet, config: LookBackConfig) -> LookBack:
    """Look-back at its start, the identity, with the sites of this U-Net if the configuration lists none."""
    if not config.sites:
        base = unet.config
        sites = find_sites(config.placement, base.model_channels, base.channel_mult, base.num_res_blocks)
        config = replace(config, sites=sites)
    look_back = build_look_back(config)
    initialize_look_back(look_back)
    return look_back


def objective(checkpoint: Checkpoint, look_back: LookBack, options: LookBackOptions) -> Objective:
    """Denoise clips given their first frame and caption; the first frame itself does not count under `hybrid`."""
    text_encoder = checkpoint.text_encoder
    assert text_encoder is not None  # adapter_task has checked it
    denoiser = replace(
        Denoiser.of(checkpoint.unet, checkpoint.preset), look_back=look_back, initialization=options.initialization
    )

    def loss(batch: ClipBatch, generator: torch.Generator) -> Tensor:
        latents = batch.latents
        timesteps = options.timesteps.draw(len(latents), denoiser.schedule.config.timesteps, generator)
        dropped = drop(len(latents), options.text_drop, generator)
        conditions = encode_texts(text_encoder, batch.captions, dropped, latents[:, :, :1])
        z, wanted = noise_clips(denoiser, latents, timesteps, conditions, generator)
        z = first_input(options.initialization, z, denoiser.given(conditions) - denoiser.origin(conditions))
        output = denoiser.predict(z, timesteps.to(latents.device), conditions)
        return F.mse_loss(
            frames_in_loss(options.initialization, output.float()), frames_in_loss(options.initialization, wanted)
        )

    return loss


def trained_along(name: str, options: LookBackOptions) -> bool:
    """Whether a weight of the base is trained with look-back."""
    return name.startswith(options.trained_along)


LOOK_BACK = Method(LookBackOptions, build, objective, trained_along)
