"""The denoiser: network and conditions joined once, for training, generation and the nodes alike."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from .conditions import Conditions, join_conditions
from .diffusion.guidance import ClassifierFreeGuidance
from .diffusion.initialization import Initialization, first_estimate, first_input, first_state
from .diffusion.prediction import Prediction, network_input, to_denoised
from .diffusion.schedule import Schedule
from .model.look_back import LookBack, LookBackState, check_sites, find_sites
from .model.video_unet import AfterBlock, VideoUNet
from .presets import Preset
from .weights.adapters import Adapter, replace_weights


@dataclass(frozen=True)
class Denoiser:
    """A network with the schedule and the prediction that it was trained for.

    With `image_residual` the network's clean clip is the difference to the given image's latent, in which a still clip
    is zero. In terms of noise this is the shortcut path of TRIP (arXiv:2403.17005, section 3.2): the reference noise
    of the image, and the network's residual beside it.

    With `look_back` the clip begins with the given image, in the way that `initialization` says.
    """

    network: VideoUNet
    schedule: Schedule
    prediction: Prediction
    image_residual: bool = False
    look_back: LookBack | None = None
    initialization: Initialization = "hybrid"

    def __post_init__(self) -> None:
        if self.look_back is not None:
            config = self.network.config
            blocks = find_sites("block", config.model_channels, config.channel_mult, config.num_res_blocks)
            check_sites(self.look_back.config, blocks)

    @classmethod
    def of(cls, network: VideoUNet, preset: Preset) -> "Denoiser":
        """The denoiser of a network that was trained as its preset says."""
        return cls(network, Schedule(preset.schedule), preset.prediction, preset.image_residual)

    @classmethod
    def adapted(cls, network: VideoUNet, preset: Preset, adapters: Iterable[Adapter]) -> "Denoiser":
        """The denoiser with adapters, whose weights of the base replace the network's own.

        Raises ValueError for two adapters of one kind, and for one that was trained with another base.
        """
        denoiser = cls.of(network, preset)
        for adapter in adapters:
            if getattr(denoiser, adapter.kind, None) is not None:
                raise ValueError(f"two adapters of kind {adapter.kind} were given; use one")
            replace_weights(network, adapter.unet)
            denoiser = replace(denoiser, **cast(Any, {adapter.kind: adapter.module}))
        return denoiser

    def origin(self, conditions: Conditions) -> Tensor | float:
        """Where the network's latents begin: the given image's latent `b c 1 h w`, or zero."""
        if not self.image_residual:
            return 0.0
        if conditions.image_latent is None:
            raise ValueError("this model animates a given image: conditions.image_latent is needed, got None")
        return conditions.image_latent

    def given(self, conditions: Conditions) -> Tensor:
        """The given image's latent `b c 1 h w`, with which a look-back clip begins."""
        if conditions.image_latent is None:
            raise ValueError("look-back begins with a given image: conditions.image_latent is needed, got None")
        return conditions.image_latent[:, :, :1]

    def predict(
        self, z: Tensor, timesteps: Tensor, conditions: Conditions, *, carried: LookBackState | None = None
    ) -> Tensor:
        """Run the network on noised latents.

        Args:
            z: variance-preserving latents, `b c t h w`.
            timesteps: in [0, 1000), `b`.
            conditions: of the same `b` clips.
            carried: what look-back carries along a video in pieces, updated; None for a video at once.

        Returns:
            The raw prediction, `b c t h w`.

        Raises:
            ValueError: the network takes the given image's latent on further channels and none was given, or the
                other way round.
        """
        return self.network(
            with_image_latent(z, self._on_channels(z, conditions), self.network.config.in_channels),
            timesteps,
            conditions.text,
            image_tokens=conditions.image_tokens,
            fps=conditions.fps,
            pooled_text=conditions.pooled_text,
            after_block=self._after_block(carried),
        )

    def denoise(
        self,
        y: Tensor,
        sigma: Tensor,
        conditional: Conditions,
        unconditional: Conditions | None,
        guidance: ClassifierFreeGuidance,
        *,
        carried: LookBackState | None = None,
    ) -> Tensor:
        """Estimate the clean latents at state `y = x0 + sigma n`, guided on the raw prediction; `b c t h w`.

        `carried` is what look-back carries at this sigma along a video in pieces, of which y is the next one.
        """
        scale, origin = self.schedule.scale_at(sigma), self.origin(conditional)
        begins = self.look_back is not None and (carried is None or not carried.begun)
        y = y - origin
        z = network_input(y, sigma, scale)
        if begins:
            z = first_input(self.initialization, z, self.given(conditional) - origin)
        timesteps = self.schedule.timestep(sigma).to(z.device).expand(len(z))
        if not guidance.needs_unconditional:
            guided = self.predict(z, timesteps, conditional, carried=carried)
        elif unconditional is None:
            raise ValueError(
                f"guidance of scale {guidance.scale} needs unconditional conditions, got None: pass them or scale 1"
            )
        else:
            guided = guidance.combine(*self._both(z, timesteps, conditional, unconditional, carried))
        denoised = to_denoised(self.prediction, guided, y, sigma, scale) + origin
        return first_estimate(self.initialization, denoised, self.given(conditional)) if begins else denoised

    def start(self, y: Tensor, sigmas: Tensor, conditional: Conditions) -> Tensor:
        """Where sampling a look-back clip begins: noise `b c t h w` at the first sigma, with its frame 0 prepared."""

        def denoise_first(state: Tensor, sigma: Tensor) -> Tensor:
            return self.denoise(state, sigma, conditional, None, ClassifierFreeGuidance(1.0))

        return first_state(self.initialization, y, self.given(conditional), sigmas, denoise_first)

    def _both(
        self,
        z: Tensor,
        timesteps: Tensor,
        conditional: Conditions,
        unconditional: Conditions,
        carried: LookBackState | None,
    ) -> tuple[Tensor, Tensor]:
        """Predictions under both conditions; in one run for look-back, whose loop over frames is then walked once."""
        if self.look_back is None:
            return self.predict(z, timesteps, conditional), self.predict(z, timesteps, unconditional)
        joined = join_conditions(conditional, unconditional)
        both = self.predict(torch.cat([z, z]), torch.cat([timesteps, timesteps]), joined, carried=carried)
        first, second = both.chunk(2)
        return first, second

    def _after_block(self, carried: LookBackState | None) -> AfterBlock | None:
        if self.look_back is None:
            return None
        return self.look_back.after_block(carried, keep_first=self.initialization == "inversion")

    def _on_channels(self, z: Tensor, conditions: Conditions) -> Tensor | None:
        """The image latent for the network's channels; look-back needs it also where the network takes none."""
        if self.look_back is not None and self.network.config.in_channels == z.shape[1]:
            return None
        return conditions.image_latent


def with_image_latent(z: Tensor, image_latent: Tensor | None, in_channels: int) -> Tensor:
    """Join the given image's latent `b c 1 h w` or `b c t h w` to the channels of `z`, in every frame.

    This is DynamiCrafter's visual detail guidance (arXiv:2310.12190, section 3.2); the image latent is never noised.
    """
    missing = in_channels - z.shape[1]
    given = 0 if image_latent is None else image_latent.shape[1]
    if missing != given:
        raise ValueError(
            f"the network takes {in_channels} channels: {z.shape[1]} of the noised clip and {missing} of the given "
            f"image; the image latent has {given}"
        )
    if image_latent is None:
        return z
    return torch.cat([z, image_latent.to(z).expand(-1, -1, z.shape[2], -1, -1)], dim=1)
