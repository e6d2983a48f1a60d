"""Sampling of latents under a guidance: a whole clip at once, or piece after piece in memory that does not grow."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from .conditions import Conditions
from .denoiser import Denoiser
from .diffusion.guidance import ClassifierFreeGuidance, DualGuidance, progress_at
from .diffusion.samplers import Callback, sample_ddim
from .diffusion.schedule import Spacing
from .methods import LookBackMethod
from .model.look_back import LookBackState


@dataclass(frozen=True)
class SamplingConfig:
    """Settings of the sampling; `together` runs the passes of a dual guidance as one batch where memory allows."""

    steps: int
    spacing: Spacing
    guidance: ClassifierFreeGuidance | DualGuidance
    eta: float = 0.0
    together: bool = True


def sample(
    denoiser: Denoiser,
    conditional: Conditions,
    unconditional: Conditions | None,
    shape: tuple[int, ...],
    config: SamplingConfig,
    *,
    seeds: list[int],
    null: Conditions | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample latents `b c t h w` by DDIM; clip i depends on `seeds[i]` only, whatever else is in the batch.

    Args:
        null: without text and without image, for dual guidance.
    """
    branches = conditional, unconditional, null
    noise = per_clip_noise(shape, seeds, conditional.text.device)
    [latents] = _sample(denoiser, *branches, config, [noise(-1)], noise=noise, callback=callback)
    return latents


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
    _check_pieces(denoiser, config, frames)
    branches = conditional, unconditional, null
    if states is None:
        steps = denoiser.schedule.timesteps(config.steps, config.spacing)
        states = [LookBackState("cpu") for _ in steps]
    with torch.no_grad():
        yield from _sample(denoiser, *branches, config, noise.split(frames, dim=2), states=states, callback=callback)


def _sample(
    denoiser: Denoiser,
    conditional: Conditions,
    unconditional: Conditions | None,
    null: Conditions | None,
    config: SamplingConfig,
    pieces: Sequence[Tensor],
    *,
    noise: Callable[[int], Tensor] | None = None,
    states: Sequence[LookBackState] = (),
    callback: Callback | None = None,
) -> Iterator[Tensor]:
    """Sample from standard normal noise for each piece, `b c t h w`; `noise` is added by steps."""
    schedule, device = denoiser.schedule, conditional.text.device
    sigmas = schedule.sigmas(config.steps, config.spacing)
    scales = schedule.scale_at(sigmas)
    estimate = guided(denoiser, conditional, unconditional, null, config, sigmas)
    for index, drawn in enumerate(pieces):
        start = drawn.to(device) * sigmas[0].item()
        if index == 0:
            start = denoiser.start(start, sigmas, conditional)
        carried = iter(states)

        def denoise(y: Tensor, sigma: Tensor, carried: Iterator[LookBackState] = carried) -> Tensor:
            return estimate(y, sigma, carried=next(carried) if states else None)

        latents = sample_ddim(denoise, start, sigmas, eta=config.eta, noise=noise, scales=scales, callback=callback)
        yield denoiser.initialization.result(latents, conditional.first_frame) if index == 0 else latents


def _check_pieces(denoiser: Denoiser, config: SamplingConfig, frames: int) -> None:
    if denoiser.find(LookBackMethod) is None:
        raise ValueError("a video in pieces needs look-back, which carries them together; got a denoiser without it")
    if denoiser.network.config.is_temporal:
        raise ValueError(
            "a video in pieces needs a base without temporal layers, which would see one piece only; use an image model"
        )
    if frames < 1:
        raise ValueError(f"a piece needs at least one frame, got {frames}")
    if config.eta:
        raise ValueError(f"pieces are sampled without fresh noise, got eta {config.eta}: set it to 0")


class GuidedDenoise(Protocol):
    """The clean estimate at state y and its sigma; `carried` as for `Denoiser.denoise`."""

    def __call__(self, y: Tensor, sigma: Tensor, /, *, carried: LookBackState | None = None) -> Tensor: ...


def guided(
    denoiser: Denoiser,
    conditional: Conditions,
    unconditional: Conditions | None,
    null: Conditions | None,
    config: SamplingConfig,
    sigmas: Tensor,
) -> GuidedDenoise:
    """The clean estimate at a state and its sigma, under the guidance of the configuration.

    Raises ValueError if a dual guidance lacks conditions.
    """
    guidance, conditional = config.guidance, denoiser.prepare(conditional)
    if isinstance(guidance, ClassifierFreeGuidance):
        if unconditional is not None:
            unconditional = denoiser.prepare(denoiser.without_image(unconditional, conditional))
            unconditional = replace(unconditional, known={})
        conditional = replace(conditional, known={})
        return partial(denoiser.denoise, conditional=conditional, unconditional=unconditional, guidance=guidance)
    if null is None or unconditional is None:
        raise ValueError("dual guidance needs unconditional and null conditions: empty text with and without the image")
    unconditional = denoiser.prepare(unconditional)
    null = denoiser.prepare(denoiser.without_image(null, conditional))
    text_only = conditional.with_image_of(null)
    middle = text_only if guidance.order == "text_first" else unconditional
    branches = [replace(each, known={}) for each in (conditional, middle, null)]

    def denoise(y: Tensor, sigma: Tensor, /, *, carried: LookBackState | None = None) -> Tensor:
        weights = guidance.at(progress_at(sigma, sigmas))
        return denoiser.denoise_branches(y, sigma, branches, weights, together=config.together, carried=carried)

    return denoise


def per_clip_noise(shape: tuple[int, ...], seeds: list[int], device: torch.device) -> Callable[[int], Tensor]:
    """A source of standard normals `b c t h w` for each step, one generator for each clip, drawn on the CPU."""
    if len(seeds) != shape[0]:
        raise ValueError(f"one seed for each clip is needed: {shape[0]} clips, {len(seeds)} seeds")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(_: int) -> Tensor:
        return torch.stack([torch.randn(shape[1:], generator=generator) for generator in generators]).to(device)

    return draw
