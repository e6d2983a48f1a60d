"""Training of look-back: "Implicit Semi-auto-regressive Image-to-Video Diffusion", Algorithm 2 and equation 2."""

from dataclasses import dataclass, replace

from ..data.clips import ClipBatch
from ..denoiser import Denoiser
from ..diffusion.initialization import Initialization, first_input, frames_in_loss
from ..model.look_back import LookBack, LookBackConfig, find_sites, initialize_look_back
from ..model.video_unet import VideoUNet
from .adapter import Method
from .draws import Draws
from .lesson import ClipLosses, Lesson


@dataclass(frozen=True)
class LookBackOptions:
    """What a configuration may choose.

    Attributes:
        initialization: what the network sees of the first frame.
        trained_along: beginnings of the names of the base's weights that are trained too.
    """

    initialization: Initialization = "hybrid"
    trained_along: tuple[str, ...] = ()


def build(unet: VideoUNet, config: LookBackConfig) -> LookBack:
    """Look-back at its start, the identity, with the sites of this U-Net if the configuration lists none."""
    if not config.sites:
        base = unet.config
        sites = find_sites(config.placement, base.model_channels, base.channel_mult, base.num_res_blocks)
        config = replace(config, sites=sites)
    look_back = LookBack(config)
    initialize_look_back(look_back)
    return look_back


def prepare(denoiser: Denoiser, options: LookBackOptions) -> Denoiser:
    """Begin clips as the options say."""
    return replace(denoiser, initialization=options.initialization)


def loss(lesson: Lesson, batch: ClipBatch, draws: Draws) -> ClipLosses:
    """Denoise clips given their first frame and caption; the first frame itself does not count under `hybrid`."""
    denoiser, initialization = lesson.denoiser, lesson.denoiser.initialization
    timesteps, lost = lesson.timesteps(draws), lesson.lost(draws)
    conditions = lesson.conditions(batch, lost)
    z, wanted = lesson.noised(batch.latents, timesteps, conditions, draws)
    z = first_input(initialization, z, denoiser.given(conditions) - denoiser.origin(conditions))
    output = lesson.predict(z, timesteps, conditions)
    output, wanted = (frames_in_loss(initialization, frames) for frames in (output, wanted))
    return lesson.losses(output, wanted, timesteps, lost)


def trained_along(name: str, options: LookBackOptions) -> bool:
    """Whether a weight of the base is trained with look-back."""
    return name.startswith(options.trained_along)


LOOK_BACK = Method("look_back", LookBackOptions, build, loss, trained_along, prepare)
