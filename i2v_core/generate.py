"""One generation, from a picture and a prompt to pixels, without a host."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .conditions import Conditions
from .denoiser import Denoiser
from .diffusion.guidance import ClassifierFreeGuidance
from .diffusion.initialization import pin_first
from .diffusion.samplers import Callback, sample_ddim
from .diffusion.schedule import Spacing
from .model.text_encoder import TextEncoder
from .presets import Preset
from .video.frames import fit_image, fit_size, to_model_range
from .weights import Checkpoint


@dataclass(frozen=True)
class SamplingConfig:
    """How latents are sampled."""

    steps: int
    spacing: Spacing
    guidance: ClassifierFreeGuidance
    eta: float = 0.0


@dataclass(frozen=True)
class GenerateConfig:
    """What a user may set; None takes what the checkpoint's preset says.

    `frames_at_once` makes the video in pieces of so many frames, which needs look-back; None makes it at once.
    """

    frames: int | None = None
    height: int | None = None
    width: int | None = None
    steps: int | None = None
    guidance: float | None = None
    eta: float | None = None
    seed: int = 0
    frames_at_once: int | None = None

    def sampling(self, preset: Preset) -> SamplingConfig:
        """The preset's sampling with what was set here in its place."""
        scale = preset.guidance if self.guidance is None else self.guidance
        return SamplingConfig(
            steps=self.steps or preset.steps,
            spacing=preset.spacing,
            guidance=ClassifierFreeGuidance(scale, preset.guidance_rescale),
            eta=preset.eta if self.eta is None else self.eta,
        )


def animate(
    checkpoint: Checkpoint,
    image: Tensor,
    prompt: str,
    *,
    negative_prompt: str = "",
    config: GenerateConfig | None = None,
    denoiser: Denoiser | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Animate a picture.

    Args:
        checkpoint: with an autoencoder and a text encoder.
        image: `h w c` in [0, 1] or uint8; cropped to the clip's shape.
        prompt: what happens; `negative_prompt`: what guidance leads away from.
        denoiser: the checkpoint's network with its adapters; None takes the network alone.
        callback: gets (step, steps, clean estimate) after every step; what it raises ends the generation.

    Returns:
        Pixels `3 t h w` in [-1, 1].

    Raises:
        ValueError: the checkpoint lacks a part, or the picture or a size is not usable.
    """
    config = config or GenerateConfig()
    preset, autoencoder = checkpoint.preset, checkpoint.autoencoder
    if autoencoder is None or checkpoint.text_encoder is None:
        raise ValueError(
            "animating from the command line needs a checkpoint with an autoencoder and a text encoder of this "
            "project; for other checkpoints use the nodes, which take both from the host"
        )
    height, width = config.height or preset.height, config.width or preset.width
    if height % 8 or width % 8:
        nearest = "x".join(str(side) for side in fit_size(height, width))
        raise ValueError(f"height and width must be multiples of 8, got {height}x{width}; the nearest is {nearest}")
    device = next(checkpoint.unet.parameters()).device
    with torch.inference_mode():
        pixels = to_model_range(fit_image(image, height, width)).permute(2, 0, 1)[None].to(device)
        image_latent = autoencoder.encode(pixels)[:, :, None]
        shape = (1, image_latent.shape[1], config.frames or preset.frames, *image_latent.shape[-2:])
        conditional = encode_conditions(checkpoint.text_encoder, [prompt], image_latent)
        unconditional = encode_conditions(checkpoint.text_encoder, [negative_prompt], image_latent)
        denoiser = denoiser or Denoiser.of(checkpoint.unet, preset)
        pieces = _pieces(denoiser, conditional, unconditional, shape, config, preset, callback)
        return torch.cat([autoencoder.decode_clip(latents)[0].clamp(-1, 1) for latents in pieces], dim=1)


def _pieces(
    denoiser: Denoiser,
    conditional: Conditions,
    unconditional: Conditions,
    shape: tuple[int, ...],
    config: GenerateConfig,
    preset: Preset,
    callback: Callback | None,
) -> Iterator[Tensor]:
    """Latents of the video piece after piece, or all of them at once."""
    from .streaming import sample_pieces  # that file needs this one

    sampling, seeds = config.sampling(preset), [config.seed]
    if config.frames_at_once is None:
        yield sample(denoiser, conditional, unconditional, shape, sampling, seeds=seeds, callback=callback)
    else:
        noise = per_clip_noise(shape, seeds, torch.device("cpu"))(-1)
        yield from sample_pieces(
            denoiser, conditional, unconditional, noise, sampling, frames=config.frames_at_once, callback=callback
        )


def encode_conditions(text_encoder: TextEncoder, texts: list[str], image_latent: Tensor) -> Conditions:
    """Encode one text for each clip, beside the given images' latents `b c 1 h w`."""
    tokens, pooled = text_encoder.encode(texts)
    return Conditions(text=tokens, pooled_text=pooled, image_latent=image_latent)


def sample(
    denoiser: Denoiser,
    conditional: Conditions,
    unconditional: Conditions | None,
    shape: tuple[int, ...],
    config: SamplingConfig,
    *,
    seeds: list[int],
    callback: Callback | None = None,
) -> Tensor:
    """Sample latents `b c t h w` by DDIM; clip i depends on `seeds[i]` only, whatever else is in the batch."""
    schedule, device = denoiser.schedule, conditional.text.device
    sigmas = schedule.sigmas(config.steps, config.spacing)
    noise = per_clip_noise(shape, seeds, device)
    start = noise(-1) * sigmas[0].item()
    if denoiser.look_back is not None:
        start = denoiser.start(start, sigmas, conditional)
    latents = sample_ddim(
        lambda y, sigma: denoiser.denoise(y, sigma, conditional, unconditional, config.guidance),
        start,
        sigmas,
        eta=config.eta,
        noise=noise,
        scales=schedule.scale_at(sigmas),
        callback=callback,
    )
    return latents if denoiser.look_back is None else pin_first(latents, denoiser.given(conditional))


def per_clip_noise(shape: tuple[int, ...], seeds: list[int], device: torch.device) -> Callable[[int], Tensor]:
    """A source of standard normals `b c t h w` for each step, one generator for each clip, drawn on the CPU."""
    if len(seeds) != shape[0]:
        raise ValueError(f"one seed for each clip is needed: {shape[0]} clips, {len(seeds)} seeds")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(_: int) -> Tensor:
        return torch.stack([torch.randn(shape[1:], generator=generator) for generator in generators]).to(device)

    return draw
