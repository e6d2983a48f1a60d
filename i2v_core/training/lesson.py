"""What every objective does alike: draw time steps and drops, encode the conditions, noise the clips, weigh errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from einops import reduce
from torch import Tensor, nn

from ..conditions import Conditions
from ..data.clips import ClipBatch
from ..denoiser import Denoiser
from ..diffusion.prediction import add_noise, min_snr_weight, target
from ..generate import outer_projection
from ..weights import Checkpoint
from .config import ConditioningConfig, DiffusionConfig
from .draws import Draws

T = TypeVar("T")


class ClipLosses(NamedTuple):
    """What each of `b` clips cost: `weighted` is trained on; `plain` is the mean squared error, all `b`."""

    weighted: Tensor
    plain: Tensor
    timesteps: Tensor
    no_text: Tensor
    no_image: Tensor


@dataclass(frozen=True)
class Lost:
    """Which clips lose their text and which their image, boolean `b` each."""

    text: Tensor
    image: Tensor


@dataclass(frozen=True)
class Lesson:
    """What an objective has at hand.

    Attributes:
        denoiser: the network with the adapter at work.
        checkpoint: encoders and preset.
        options: of the method.
        conditioning: its shares are numbers here, never None; a method that cannot lose the image has 0.
    """

    denoiser: Denoiser
    checkpoint: Checkpoint
    options: Any
    diffusion: DiffusionConfig
    conditioning: ConditioningConfig

    def timesteps(self, draws: Draws) -> Tensor:
        """Time steps in [0, timesteps of the schedule), `b`."""
        if draws.timestep is not None:
            return torch.full((len(draws.uniforms),), draws.timestep)
        return draw_timesteps(self.diffusion, self.denoiser.schedule.config.timesteps, draws.uniform(), draws.uniform())

    def lost(self, draws: Draws) -> Lost:
        """Which clips lose their text or image; every method draws the same two numbers."""
        if draws.timestep is not None:
            none = torch.zeros(len(draws.uniforms), dtype=torch.bool)
            return Lost(none, none)
        return draw_lost(self.conditioning, draws.uniform(), draws.uniform())

    def conditions(self, batch: ClipBatch, lost: Lost, image_latent: Tensor | None = None) -> Conditions:
        """Conditions of the captions, the lost ones empty, beside the given images' latents.

        Args:
            image_latent: `b c 1 h w`; None takes those of the batch. A network that sees no image gets none.
        """
        text, pooled = self._text(batch, lost)
        given = batch.image_latent if image_latent is None else image_latent
        # What another checkpoint calls a frame stride is no property of a clip alone.
        fps = batch.fps if self.checkpoint.preset.fps_meaning == "fps" else None
        tokens = self.image_tokens(batch.image) if self.denoiser.image_projection is None else None
        return Conditions(
            text=text, pooled_text=pooled, image_latent=given if sees_image(self.denoiser) else None, fps=fps,
            image_tokens=tokens,
        )  # fmt: skip

    def image_tokens(self, pixels: Tensor) -> Tensor | None:
        """What the network attends to of pictures `b c h w`; None for a network that does not.

        The features are an adapter's own encoder's, or those of the one beside the base, which is frozen.
        """
        adapter, encoder = self.denoiser.image_projection, self.checkpoint.image_encoder
        if adapter is not None and adapter.encoder is not None:
            return adapter.tokens(pixels)
        projection = outer_projection(self.checkpoint, self.denoiser)
        if projection is None:
            return None
        assert encoder is not None  # checked where the run was set up
        with torch.no_grad():
            features = encoder.encode(pixels)
        return projection(features.float())

    def _text(self, batch: ClipBatch, lost: Lost) -> tuple[Tensor, Tensor | None]:
        """Features of the captions, from the cache if they are there, and of "" for the lost ones."""
        encoder = self.checkpoint.text_encoder
        assert encoder is not None  # checked where the run was set up
        if batch.text is None:
            captions = zip(batch.captions, lost.text.tolist(), strict=True)
            return encoder.encode(["" if gone else text for text, gone in captions])
        nothing, nothing_pooled = encoder.encode([""])
        gone = lost.text.to(batch.text.device)[:, None]
        text = torch.where(gone[..., None], nothing, batch.text)
        if batch.pooled_text is None or nothing_pooled is None:
            return text, None
        return text, torch.where(gone, nothing_pooled, batch.pooled_text)

    def noised(self, latents: Tensor, timesteps: Tensor, conditions: Conditions, draws: Draws) -> tuple[Tensor, Tensor]:
        """Noise clips `b c t h w` from where the network's latents begin, to the timesteps `b`.

        Returns:
            What the network sees and what it should answer, `b c t h w` each.
        """
        denoiser, schedule = self.denoiser, self.denoiser.schedule
        clean = latents - denoiser.origin(conditions)
        if schedule.config.rescale_base is not None:
            clean = clean * schedule.scale[timesteps].to(latents)[:, None, None, None, None]
        alpha_bar = schedule.alpha_bar[timesteps].to(latents)
        noise = draws.normal(latents.shape[1:]).to(latents)
        return add_noise(clean, noise, alpha_bar), target(denoiser.prediction, clean, noise, alpha_bar)

    def predict(self, z: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The raw prediction in float32, `b c t h w`."""
        return self.denoiser.predict(z, timesteps.to(z.device), conditions).float()

    def losses(self, output: Tensor, wanted: Tensor, timesteps: Tensor, lost: Lost) -> ClipLosses:
        """Squared errors of predictions `b c t h w`, by clip."""
        plain = reduce((output - wanted) ** 2, "b ... -> b", "mean")
        weighted, gamma = plain, self.diffusion.snr_gamma
        if gamma is not None:
            alpha_bar = self.denoiser.schedule.alpha_bar[timesteps]
            weighted = plain * min_snr_weight(self.denoiser.prediction, alpha_bar, gamma).to(plain)
        return ClipLosses(weighted, plain.detach(), timesteps, lost.text, lost.image)


def denoise(lesson: Lesson, batch: ClipBatch, draws: Draws) -> ClipLosses:
    """Denoise clips given their caption, and their given frame where the network sees it: the plain objective."""
    timesteps, lost = lesson.timesteps(draws), lesson.lost(draws)
    conditions = lesson.conditions(batch, lost)
    z, wanted = lesson.noised(batch.latents, timesteps, conditions, draws)
    return lesson.losses(lesson.predict(z, timesteps, conditions), wanted, timesteps, lost)


class Objective(nn.Module):
    """The one module of a run: the networks with trained weights, and the loss of clips under them.

    Args:
        networks: by the names that learning rates and result files know them by.
        loss: of a batch and its draws.
        seed: of the run, for the draws.
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], loss: Callable[[ClipBatch, Draws], ClipLosses], seed: int
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.loss, self._seed = loss, seed

    def forward(self, batch: ClipBatch | None = None, *, call: Callable[[], T] | None = None) -> ClipLosses | T:
        """The losses of a batch; or what `call` returns, because sharded weights are whole only within a forward."""
        if batch is not None:
            return self.loss(batch, Draws.of(self._seed, batch.items))
        assert call is not None
        return call()


def draw_timesteps(config: DiffusionConfig, timesteps: int, part: Tensor, position: Tensor) -> Tensor:
    """Time steps in [0, timesteps), `b`, of uniform numbers `b`; `part` decides who comes from the noisiest part."""
    low = torch.where(part < config.noisy_share, config.noisy_from, 0.0)
    return ((low + (1 - low) * position) * timesteps).long().clamp(max=timesteps - 1)


def draw_lost(config: ConditioningConfig, first: Tensor, second: Tensor) -> Lost:
    """Who loses text and image, of two uniform numbers for each of `b` clips; "exclusive" needs but the first."""
    text_drop, image_drop = config.text_drop or 0.0, config.image_drop or 0.0
    if config.drop_mode == "independent":
        return Lost(first < text_drop, second < image_drop)
    both = first < config.both_drop
    text = first < config.both_drop + text_drop
    return Lost(text, both | (~text & (first < config.both_drop + text_drop + image_drop)))


def sees_image(denoiser: Denoiser) -> bool:
    """Whether the given image's latent has a place in a denoiser."""
    config = denoiser.network.config
    beside = denoiser.temporal_noise_fusion is not None or denoiser.look_back is not None
    if denoiser.image_projection is not None:
        beside = beside or denoiser.image_projection.config.injection.visual_detail is not None
    return beside or denoiser.image_residual or config.in_channels > config.out_channels
