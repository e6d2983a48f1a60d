"""The denoiser: network and conditions joined once, for training, generation and the nodes alike."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from .conditions import Conditions
from .diffusion.guidance import ClassifierFreeGuidance
from .diffusion.image_noise_prior import check_image
from .diffusion.prediction import Prediction, network_input, to_denoised
from .diffusion.schedule import Schedule
from .model.temporal_noise_fusion import TemporalNoiseFusion
from .model.video_unet import VideoUNet
from .presets import Preset
from .temporal_residual import drop_image, fuse, join_image, join_tokens
from .weights.adapters import Adapter, replace_weights


@dataclass(frozen=True)
class Denoiser:
    """A network with the schedule and the prediction that it was trained for.

    With `image_residual` the network's clean clip is the difference to the given image's latent, in which a still clip
    is zero. In terms of noise this is the shortcut path of TRIP (arXiv:2403.17005, section 3.2): the reference noise
    of the image, and the network's residual beside it.

    With `temporal_noise_fusion` the network sees the given image beside the clip, as TRIP does, and its answer is fused
    with the reference.
    """

    network: VideoUNet
    schedule: Schedule
    prediction: Prediction
    image_residual: bool = False
    temporal_noise_fusion: TemporalNoiseFusion | None = None

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

    def predict(self, z: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """Run the network on noised latents.

        Args:
            z: variance-preserving latents, `b c t h w`.
            timesteps: in [0, 1000), `b`.
            conditions: of the same `b` clips.

        Returns:
            The raw prediction, `b c t h w`.

        Raises:
            ValueError: the network takes the given image's latent on further channels and none was given, or the
                other way round.
        """
        if self.temporal_noise_fusion is not None:
            return self._predict_fused(z, timesteps, conditions, self.temporal_noise_fusion)
        return self._run(z, timesteps, conditions)

    def _run(self, z: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        return self.network(
            with_image_latent(z, conditions.image_latent, self.network.config.in_channels),
            timesteps,
            conditions.text,
            image_tokens=conditions.image_tokens,
            fps=conditions.fps,
            pooled_text=conditions.pooled_text,
        )

    def _predict_fused(
        self, z: Tensor, timesteps: Tensor, conditions: Conditions, fusion: TemporalNoiseFusion
    ) -> Tensor:
        image, position = conditions.image_latent, fusion.config.position
        if image is None:
            raise ValueError("TRIP animates a given image: conditions.image_latent is needed, got None")
        check_image(z, image)
        origin = self.origin(conditions)
        if position != "channel" and self.network.config.in_channels == z.shape[1]:
            # A text-to-video network knows the image from the joined frame alone.
            conditions = replace(conditions, image_latent=None)
        if conditions.image_tokens is not None and conditions.image_tokens.ndim == 4:
            tokens = join_tokens(conditions.image_tokens, z.shape[2], position)
            conditions = replace(conditions, image_tokens=tokens)
        joined = join_image(z, image - origin, position)
        residual = drop_image(self._run(joined, timesteps, conditions), position)
        return fuse(fusion, residual, z, timesteps, image, origin, self.schedule, self.prediction)

    def denoise(
        self,
        y: Tensor,
        sigma: Tensor,
        conditional: Conditions,
        unconditional: Conditions | None,
        guidance: ClassifierFreeGuidance,
    ) -> Tensor:
        """Estimate the clean latents at state `y = x0 + sigma n`, guided on the raw prediction; `b c t h w`."""
        scale, origin = self.schedule.scale_at(sigma), self.origin(conditional)
        y = y - origin
        z = network_input(y, sigma, scale)
        timesteps = self.schedule.timestep(sigma).to(z.device).expand(len(z))
        guided = self.predict(z, timesteps, conditional)
        if guidance.needs_unconditional:
            if unconditional is None:
                raise ValueError(
                    f"guidance of scale {guidance.scale} needs unconditional conditions, got None: pass them or scale 1"
                )
            guided = guidance.combine(guided, self.predict(z, timesteps, unconditional))
        return to_denoised(self.prediction, guided, y, sigma, scale) + origin


def first_and_last(first: Tensor, last: Tensor, frames: int) -> Tensor:
    """Lay the latents of two images, `b c 1 h w` each, on the first and the last frame, with zeros between.

    This is how the interpolation weights of DynamiCrafter see them, `b c t h w`; the same image twice makes a loop,
    whose last frame repeats its first.

    Raises ValueError for latents of different shapes or fewer than two frames.
    """
    if first.shape != last.shape:
        raise ValueError(f"the two images' latents must be of one shape, got {tuple(first.shape)}, {tuple(last.shape)}")
    if frames < 2:
        raise ValueError(f"a first and a last frame are at least 2 frames, got {frames}")
    between = first.new_zeros(*first.shape[:2], frames - 2, *first.shape[3:])
    return torch.cat([first, between, last.to(first)], dim=2)


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
