"""The objective of every training: draw time steps and drops, encode the conditions, noise the clips, weigh errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

import torch
from einops import reduce
from torch import Tensor, nn

from ..conditions import Conditions, grey, white
from ..data.clips import ClipBatch
from ..denoiser import Denoiser
from ..diffusion.prediction import add_noise, min_snr_weight, target
from ..methods import ImageProjectionMethod
from ..methods.image_projection import ImageTokens, image_tokens_of
from ..weights import Checkpoint
from .config import ConditioningConfig, DiffusionConfig
from .per_clip_random import PerClipRandom

T = TypeVar("T")
DropMode = Literal["independent", "exclusive"]


class ClipLosses(NamedTuple):
    """Losses of each of `b` clips: `weighted` is trained on; `plain` is the mean squared error, all `b`."""

    weighted: Tensor
    plain: Tensor
    timesteps: Tensor
    no_text: Tensor
    no_image: Tensor


@dataclass(frozen=True)
class DropMask:
    """Drop mask: clips trained without their text and clips trained without their image, boolean `b` each."""

    text: Tensor
    image: Tensor


@dataclass(frozen=True)
class LossContext:
    """Context of the objective besides the clips.

    Attributes:
        denoiser: the network with the adapter at work.
        checkpoint: encoders and preset.
        conditioning: nothing of it is None here; its share of images is 0 where a method cannot do without.
    """

    denoiser: Denoiser
    checkpoint: Checkpoint
    diffusion: DiffusionConfig
    conditioning: ConditioningConfig

    def timesteps(self, draws: PerClipRandom) -> Tensor:
        """Time steps in [0, timesteps of the schedule), `b`."""
        if draws.timestep is not None:
            return torch.full((len(draws.uniforms),), draws.timestep)
        return draw_timesteps(self.diffusion, self.denoiser.schedule.config.timesteps, draws.uniform(), draws.uniform())

    def dropped(self, draws: PerClipRandom) -> DropMask:
        """Drops of text and image; every method draws the same two numbers."""
        if draws.timestep is not None:
            none = torch.zeros(len(draws.uniforms), dtype=torch.bool)
            return DropMask(none, none)
        return draw_drops(self.conditioning, draws.uniform(), draws.uniform())

    def conditions(self, batch: ClipBatch, dropped: DropMask, draws: PerClipRandom) -> Conditions:
        """Conditions of the captions and given images, prepared, with empty text and the null image where dropped.

        Which frame of a clip is the given image, DynamiCrafter's random one or the first, is the data's to say.
        """
        text, pooled = self._text(batch, dropped)
        rates = {"fps": batch.fps, "frame_stride": batch.stride, None: None}
        plain = Conditions(text, pooled, fps=rates[self.checkpoint.preset.fps_meaning])
        return self.denoiser.prepare(self._with_image(plain, batch, dropped.image, draws))

    def _with_image(self, plain: Conditions, batch: ClipBatch, dropped: Tensor, draws: PerClipRandom) -> Conditions:
        """As `GivenImage`: a dropped image is grey for tokens and keeps its latent; without tokens it is white."""
        latent = batch.image_latent if self.denoiser.sees_image else None
        if (tokens := self.image_tokens) is not None:
            seen = tokens(_replaced(batch.image, grey(batch.image), dropped))
            if batch.latents.shape[2] == 1:
                seen = drawn_group(seen, draws)
            return replace(plain, image_latent=latent, image_tokens=seen, image=batch.image)
        if not self.drops_images:
            return replace(plain, image_latent=latent, image=batch.image)
        image, autoencoder = _replaced(batch.image, white(batch.image), dropped), self.checkpoint.autoencoder
        assert autoencoder is not None  # checked where the run was set up
        with torch.no_grad():
            latent = autoencoder.encode(image).to(batch.latents)[:, :, None] if self.denoiser.sees_image else None
        return replace(plain, image_latent=latent, image=image)

    @property
    def image_tokens(self) -> ImageTokens | None:
        """Image tokens from an adapter's own encoder or the frozen one next to the base."""
        return image_tokens_of(self.checkpoint, self.denoiser.find(ImageProjectionMethod))

    @property
    def drops_images(self) -> bool:
        """Some clips are trained without their image."""
        exclusive = self.conditioning.drop_mode == "exclusive"
        return bool(self.conditioning.image_drop) or (exclusive and bool(self.conditioning.both_drop))

    def _text(self, batch: ClipBatch, dropped: DropMask) -> tuple[Tensor, Tensor | None]:
        """Features of the captions, from the cache if they are there, and of "" for the dropped ones."""
        encoder = self.checkpoint.text_encoder
        assert encoder is not None  # checked where the run was set up
        if batch.text is None:
            captions = zip(batch.captions, dropped.text.tolist(), strict=True)
            return encoder.encode(["" if gone else text for text, gone in captions])
        nothing, nothing_pooled = encoder.encode([""])
        gone = dropped.text.to(batch.text.device)[:, None]
        text = torch.where(gone[..., None], nothing, batch.text)
        if batch.pooled_text is None or nothing_pooled is None:
            return text, None
        return text, torch.where(gone, nothing_pooled, batch.pooled_text)

    def noised(
        self, latents: Tensor, timesteps: Tensor, conditions: Conditions, draws: PerClipRandom
    ) -> tuple[Tensor, Tensor]:
        """Noise clips `b c t h w` from where the network's latents begin, to the timesteps `b`.

        Returns:
            What the network sees and what it should answer, `b c t h w` each.
        """
        denoiser, schedule = self.denoiser, self.denoiser.schedule
        clean = latents - conditions.origin
        if schedule.config.rescale_base is not None:
            clean = clean * schedule.scale[timesteps].to(latents)[:, None, None, None, None]
        alpha_bar = schedule.alpha_bar[timesteps].to(latents)
        noise = draws.normal(latents.shape[1:]).to(latents)
        return add_noise(clean, noise, alpha_bar), target(denoiser.prediction, clean, noise, alpha_bar)

    def predict(self, z: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The raw prediction in float32, `b c t h w`."""
        return self.denoiser.predict(z, timesteps.to(z.device), conditions).float()

    def losses(self, output: Tensor, wanted: Tensor, timesteps: Tensor, dropped: DropMask) -> ClipLosses:
        """Squared errors of predictions `b c t h w`, by clip."""
        plain = reduce((output - wanted) ** 2, "b ... -> b", "mean")
        weighted, gamma = plain, self.diffusion.snr_gamma
        if gamma is not None:
            alpha_bar = self.denoiser.schedule.alpha_bar[timesteps]
            weighted = plain * min_snr_weight(self.denoiser.prediction, alpha_bar, gamma).to(plain)
        return ClipLosses(weighted, plain.detach(), timesteps, dropped.text, dropped.image)


def denoise(context: LossContext, batch: ClipBatch, draws: PerClipRandom) -> ClipLosses:
    """Denoise clips given their caption and image: the objective of every base and every method.

    TRIP's prediction is the fused one (equation 10); frame 0 that look-back knows does not count (Algorithm 2).
    """
    timesteps, dropped = context.timesteps(draws), context.dropped(draws)
    conditions, first = context.conditions(batch, dropped, draws), context.denoiser.initialization
    z, wanted = context.noised(batch.latents, timesteps, conditions, draws)
    z = first.input(z, conditions.first_frame, conditions.origin)
    output = context.predict(z, timesteps, conditions)
    return context.losses(first.in_loss(output), first.in_loss(wanted), timesteps, dropped)


class Objective(nn.Module):
    """The one module of a run: the networks with trained weights, and the loss of clips under them.

    Args:
        networks: by the names that learning rates and result files know them by.
        loss: of a batch and its draws.
        seed: of the run, for the draws.
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], loss: Callable[[ClipBatch, PerClipRandom], ClipLosses], seed: int
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.loss, self._seed = loss, seed

    def forward(self, batch: ClipBatch | None = None, *, call: Callable[[], T] | None = None) -> ClipLosses | T:
        """The losses of a batch; or what `call` returns, because sharded weights are whole only within a forward."""
        if batch is not None:
            return self.loss(batch, PerClipRandom.of(self._seed, batch.items))
        assert call is not None
        return call()


def drawn_group(tokens: Tensor, draws: PerClipRandom) -> Tensor:
    """The image tokens of a random frame of each clip, `b t k d` to `b 1 k d`; tokens `b k d` of all frames stay.

    On an image model (DynamiCrafter, section 4.1: the first stage) a picture is any frame of a clip: the queries of
    every frame are trained so, where one picture's place in time would leave all others at their start.
    """
    if tokens.ndim == 3:
        return tokens
    group = (draws.uniform() * tokens.shape[1]).long().clamp(max=tokens.shape[1] - 1)
    return tokens[torch.arange(len(tokens)), group.to(tokens.device)][:, None]


def draw_timesteps(config: DiffusionConfig, timesteps: int, part: Tensor, position: Tensor) -> Tensor:
    """Time steps in [0, timesteps), `b`, of uniform numbers `b`; `part` decides which come from the noisiest part."""
    low = torch.where(part < config.noisy_share, config.noisy_from, 0.0)
    return ((low + (1 - low) * position) * timesteps).long().clamp(max=timesteps - 1)


def draw_drops(config: ConditioningConfig, first: Tensor, second: Tensor) -> DropMask:
    """Drops of text and image, of two uniform numbers for each of `b` clips; "exclusive" needs but the first."""
    text_drop, image_drop = config.text_drop or 0.0, config.image_drop or 0.0
    if config.drop_mode != "exclusive":
        return DropMask(first < text_drop, second < image_drop)
    both = first < config.both_drop
    text = first < config.both_drop + text_drop
    return DropMask(text, both | (~text & (first < config.both_drop + text_drop + image_drop)))


def _replaced(pictures: Tensor, null: Tensor, dropped: Tensor) -> Tensor:
    return torch.where(dropped.to(pictures.device)[:, None, None, None], null, pictures)


def with_drops(
    config: ConditioningConfig, text_drop: float, image_drop: float | None, drop_mode: DropMode = "independent"
) -> ConditioningConfig:
    """The drops of a configuration, a method's where it has none; raises ValueError for images that stay needed."""
    if image_drop is None and (config.image_drop or config.drop_mode == "exclusive"):
        raise ValueError("this method cannot do without the image; leave out conditioning.image_drop and drop_mode")
    return replace(
        config,
        text_drop=text_drop if config.text_drop is None else config.text_drop,
        image_drop=(image_drop or 0.0) if config.image_drop is None else config.image_drop,
        drop_mode=config.drop_mode or drop_mode,
    )
