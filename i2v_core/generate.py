"""One generation, from a picture and a prompt to pixels, without a host."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .conditions import Conditions, GivenImage, grey, white
from .denoiser import Denoiser
from .diffusion.guidance import ClassifierFreeGuidance, DualGuidance, GuidanceOrder, ScaleSchedule
from .diffusion.samplers import Callback
from .methods import ImageProjectionMethod
from .methods.image_projection import ImageTokens, image_tokens_of, outer_projection
from .model.autoencoder import Autoencoder
from .model.patch_autoencoder import PatchAutoencoder
from .model.text_encoder import TextEncoder
from .presets import Preset
from .sampling import SamplingConfig, per_clip_noise, sample, sample_pieces
from .video.frames import check_size, fit_image, to_model_range
from .weights import Checkpoint
from .weights.checkpoint import lacking_parts
from .weights.companions.known import IMAGE_ENCODER
from .weights.companions.text import ClipTextEncoder


@dataclass(frozen=True)
class GenerateConfig:
    """Settings of a generation; None takes the checkpoint's preset.

    With `text_scale` or `image_scale` the guidance is a dual one in `guidance_order`; the other scale is then the
    preset's for the text and 1 for the image.

    `frames_at_once` makes the video in pieces of so many frames, which needs look-back; None makes it at once.

    `rate` is what the model is told of the motion, in frames per second or as a frame stride (`Preset.fps_meaning`).
    """

    frames: int | None = None
    height: int | None = None
    width: int | None = None
    steps: int | None = None
    guidance: float | None = None
    eta: float | None = None
    seed: int = 0
    text_scale: ScaleSchedule | float | None = None
    image_scale: ScaleSchedule | float | None = None
    guidance_order: GuidanceOrder = "text_first"
    frames_at_once: int | None = None
    rate: float | None = None

    def sampling(self, preset: Preset) -> SamplingConfig:
        """The preset's sampling with what was set here in its place."""
        scale = preset.guidance if self.guidance is None else self.guidance
        guidance: ClassifierFreeGuidance | DualGuidance = ClassifierFreeGuidance(scale, preset.guidance_rescale)
        if self.text_scale is not None or self.image_scale is not None:
            text = scale if self.text_scale is None else self.text_scale
            image = 1.0 if self.image_scale is None else self.image_scale
            guidance = DualGuidance(text, image, self.guidance_order, preset.guidance_rescale)
        return SamplingConfig(
            steps=self.steps or preset.steps,
            spacing=preset.spacing,
            guidance=guidance,
            eta=preset.eta if self.eta is None else self.eta,
        )


@dataclass(frozen=True)
class Animator:
    """The parts that an animation goes through, all of them present."""

    denoiser: Denoiser
    autoencoder: Autoencoder | PatchAutoencoder
    text_encoder: TextEncoder | ClipTextEncoder
    preset: Preset
    image_tokens: ImageTokens | None = None

    @classmethod
    def of(cls, checkpoint: Checkpoint, denoiser: Denoiser | None = None) -> "Animator":
        """The checkpoint's own parts; `denoiser` is its network with adapters, None the network alone.

        Raises ValueError naming the part that the checkpoint lacks and the file that brings it.
        """
        denoiser = denoiser or Denoiser.of(checkpoint.unet, checkpoint.preset)
        check_parts(checkpoint, denoiser)
        assert checkpoint.autoencoder is not None and checkpoint.text_encoder is not None
        tokens = image_tokens_of(checkpoint, denoiser.find(ImageProjectionMethod))
        return cls(denoiser, checkpoint.autoencoder, checkpoint.text_encoder, checkpoint.preset, tokens)

    def fit(self, image: Tensor, config: GenerateConfig) -> Tensor:
        """Bring a picture `h w c` (uint8 or [0, 1]) to the clip's size: `1 3 h w` in [-1, 1].

        Raises ValueError for a size that is no multiple of 8, naming the nearest.
        """
        height, width = config.height or self.preset.height, config.width or self.preset.width
        check_size(height, width)
        device = next(self.denoiser.network.parameters()).device
        return to_model_range(fit_image(image, height, width)).permute(2, 0, 1)[None].to(device)

    def animate(
        self,
        picture: Tensor,
        prompt: str,
        *,
        negative_prompt: str = "",
        config: GenerateConfig,
        image_latent: Tensor | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Animate one fitted picture `1 3 h w`: latents `1 c t h w`.

        Args:
            image_latent: of the picture, `1 c h w`, where it is known already; None encodes the picture.
        """
        pieces = self.pieces(
            picture,
            prompt,
            negative_prompt=negative_prompt,
            config=config,
            image_latent=image_latent,
            callback=callback,
        )
        return torch.cat(list(pieces), dim=2)

    def pieces(
        self,
        picture: Tensor,
        prompt: str,
        *,
        negative_prompt: str = "",
        config: GenerateConfig,
        image_latent: Tensor | None = None,
        callback: Callback | None = None,
    ) -> Iterator[Tensor]:
        """The latents that `animate` joins, one after the other: a single one unless `frames_at_once` is set."""
        given = (self.autoencoder.encode(picture) if image_latent is None else image_latent)[:, :, None]
        sampling = config.sampling(self.preset)
        conditional, unconditional, null = self.branches(
            sampling.guidance, [prompt], [negative_prompt], given, picture, config.rate
        )
        conditions = conditional, unconditional
        shape = (1, given.shape[1], config.frames or self.preset.frames, *given.shape[-2:])
        if config.frames_at_once is None:
            yield sample(self.denoiser, *conditions, shape, sampling, seeds=[config.seed], null=null, callback=callback)
        else:
            noise = per_clip_noise(shape, [config.seed], torch.device("cpu"))(-1)
            yield from sample_pieces(
                self.denoiser, *conditions, noise, sampling, frames=config.frames_at_once, null=null, callback=callback
            )

    def branches(
        self,
        guidance: ClassifierFreeGuidance | DualGuidance,
        texts: list[str],
        negative: list[str],
        image_latent: Tensor,
        pictures: Tensor,
        rate: float | None = None,
    ) -> tuple[Conditions, Conditions, Conditions | None]:
        """Conditional, unconditional and null conditions of `b` clips for a guidance.

        Args:
            image_latent: `b c 1 h w`. pictures: `b 3 H W` in [-1, 1].
            rate: as in `GenerateConfig`.
        """
        dual, rate = isinstance(guidance, DualGuidance), self.preset.fps if rate is None else rate
        fps = None if rate is None else image_latent.new_full((len(texts),), float(rate))
        given = self.look_at(pictures, image_latent, white_needed=dual)

        def encode(words: list[str], seen: GivenImage) -> Conditions:
            plain = encode_conditions(self.text_encoder, words, seen.latent, seen.pixels)
            return replace(plain, image_tokens=seen.image_tokens, fps=fps)

        null = encode(negative, given.without()) if dual else None
        return encode(texts, given), encode(negative, given if dual else given.without_tokens()), null

    def look_at(self, pictures: Tensor, latent: Tensor, *, white_needed: bool) -> GivenImage:
        """Pictures `b 3 H W` in [-1, 1] with their latents `b c 1 h w`, encoded for the model."""
        if self.image_tokens is not None:
            return GivenImage(latent, self.image_tokens(pictures), self.image_tokens(grey(pictures)), pixels=pictures)
        null = self.autoencoder.encode(white(pictures))[:, :, None] if white_needed else None
        return GivenImage(latent, pixels=pictures, white_latent=null)


def check_parts(checkpoint: Checkpoint, denoiser: Denoiser | None = None) -> None:
    """Raise ValueError if a checkpoint lacks what an animation needs, naming it and the file that brings it."""
    preset, lacking = checkpoint.preset, lacking_parts(checkpoint)
    method = None if denoiser is None else denoiser.find(ImageProjectionMethod)
    projection = outer_projection(checkpoint, None if method is None else method.adapter)
    if projection is not None and checkpoint.image_encoder is None:
        lacking = lacking or [IMAGE_ENCODER.missing(projection.config.image_features)]
    if lacking:
        raise ValueError(f"animating with a checkpoint of '{preset.name}' is not possible: " + "; and ".join(lacking))
    if preset.interpolates:
        raise ValueError(
            f"'{preset.name}' makes a clip between two pictures, and only one can be given here: use its nodes, or "
            "another checkpoint"
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
    animator, config = Animator.of(checkpoint, denoiser), config or GenerateConfig()
    with torch.inference_mode():
        picture = animator.fit(image, config)
        pieces = animator.pieces(picture, prompt, negative_prompt=negative_prompt, config=config, callback=callback)
        return torch.cat([animator.autoencoder.decode_clip(latents)[0].clamp(-1, 1) for latents in pieces], dim=1)


def encode_conditions(
    text_encoder: TextEncoder | ClipTextEncoder, texts: list[str], image_latent: Tensor, image: Tensor | None = None
) -> Conditions:
    """Encode one text for each clip, with the given images' latents `b c 1 h w` and pixels `b 3 H W`."""
    tokens, pooled = text_encoder.encode(texts)
    return Conditions(text=tokens, pooled_text=pooled, image_latent=image_latent, image=image)


def null_conditions(
    autoencoder: Autoencoder | PatchAutoencoder,
    text_encoder: TextEncoder | ClipTextEncoder,
    texts: list[str],
    image: Tensor,
) -> Conditions:
    """Conditions without an image: white pictures of the size of `image`, `b 3 H W`."""
    nothing = white(image)
    return encode_conditions(text_encoder, texts, autoencoder.encode(nothing)[:, :, None], nothing)
