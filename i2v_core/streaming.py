"""Long videos by look-back, made in pieces along time, in memory that does not grow with their length."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .conditions import Conditions
from .denoiser import Denoiser
from .diffusion.initialization import pin_first
from .diffusion.samplers import Callback, sample_ddim
from .generate import SamplingConfig, guided
from .model.look_back import LookBackState


def sample_pieces(
    denoiser: Denoiser,
    conditional: Conditions,
    unconditional: Conditions | None,
    noise: Tensor,
    config: SamplingConfig,
    *,
    frames: int,
    null: Conditions | None = None,
    states: list[LookBackState] | None = None,
    callback: Callback | None = None,
) -> Iterator[Tensor]:
    """Sample a video piece after piece; each takes up what look-back carried out of the one before, step by step.

    With a causal adapter the pieces are what `sample` makes at once from the same noise, to rounding. A centered one
    looks one frame ahead at every site, for which the last frame of a piece stands in.

    Args:
        denoiser: with look-back, on a network without temporal layers, whose frames meet nowhere else.
        noise: standard normal for every frame of the video, `b c t h w`, on any device.
        frames: of a piece; the last one may be shorter.
        null: without text and without image, for dual guidance.
        states: what is carried, one for each step; None keeps it in host memory.
        callback: gets (step, steps, clean estimate) after every step of every piece.

    Yields:
        Latents `b c t h w` of the next frames, on the conditions' device.

    Raises:
        ValueError: the denoiser cannot work in pieces, the pieces have no frames, or the sampling adds noise.
    """
    _check(denoiser, config, frames)
    sigmas, device = denoiser.schedule.sigmas(config.steps, config.spacing), conditional.text.device
    states = [LookBackState("cpu") for _ in sigmas[:-1]] if states is None else states
    estimate = guided(denoiser, conditional, unconditional, null, config, sigmas)
    for index, drawn in enumerate(noise.split(frames, dim=2)):
        start = drawn.to(device) * sigmas[0].item()
        if index == 0:
            start = denoiser.start(start, sigmas, conditional)
        carried = iter(states)

        def denoise(y: Tensor, sigma: Tensor, carried: Iterator[LookBackState] = carried) -> Tensor:
            return estimate(y, sigma, carried=next(carried))

        with torch.no_grad():
            latents = sample_ddim(denoise, start, sigmas, scales=denoiser.schedule.scale_at(sigmas), callback=callback)
        yield pin_first(latents, denoiser.given(conditional)) if index == 0 else latents


def _check(denoiser: Denoiser, config: SamplingConfig, frames: int) -> None:
    network = denoiser.network.config
    if denoiser.look_back is None:
        raise ValueError("a video in pieces needs look-back, which carries them together; got a denoiser without it")
    if network.temporal_convolution or network.temporal_attention or network.init_attention:
        raise ValueError(
            "a video in pieces needs a base without temporal layers, which would see one piece only; use an image model"
        )
    if frames < 1:
        raise ValueError(f"a piece needs at least one frame, got {frames}")
    if config.eta:
        raise ValueError(f"pieces are sampled without fresh noise, got eta {config.eta}: set it to 0")
