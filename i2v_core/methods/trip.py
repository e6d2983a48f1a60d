"""TRIP (arXiv:2403.17005, sections 3.2 to 3.4): the image joins the clip, and its noise prior the answer."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..conditions import Conditions
from ..diffusion.image_noise_prior import check_image, fusion_weights, linear_fusion, reference_prediction
from ..diffusion.prediction import Prediction, append_dims, target
from ..diffusion.schedule import Schedule
from ..model.image_projection import resample_image_tokens
from ..model.seams import Seams
from ..model.temporal_noise_fusion import (
    Position,
    TemporalNoiseFusion,
    TemporalNoiseFusionConfig,
    initialize_temporal_noise_fusion,
)
from ..model.video_unet import VideoUNet
from .method import Base, Method, Network, NetworkCall, Training, is_temporal


@dataclass(frozen=True)
class TripOptions:
    """Options of a training's configuration.

    Attributes:
        trained: weights of the base that are fine-tuned jointly: `all` as in the paper, or those of temporal layers,
            which makes a smaller file.
    """

    trained: Literal["all", "temporal"] = "all"


def new_fusion(base: Base, config: TemporalNoiseFusionConfig) -> TemporalNoiseFusion:
    """A new fusion for the latents of this base."""
    unet = base.unet.config
    without_channels = config.position == "channel" and not unet.image_channels
    image_features = unet.model_channels if without_channels else None
    fusion = TemporalNoiseFusion(replace(config, channels=unet.out_channels, image_features=image_features))
    initialize_temporal_noise_fusion(fusion)
    return fusion


def trains(name: str, options: TripOptions) -> bool:
    """A weight of the base is trained: every one, or those of temporal layers."""
    return options.trained == "all" or is_temporal(name)


@dataclass(frozen=True)
class TripMethod(Method):
    """Residual and reference path around the network, and their fusion (equations 9 and 11).

    Attributes:
        module: None for a fusion without weights.
        settings: the module's configuration, or what a user chose in its place.
    """

    module: TemporalNoiseFusion | None
    settings: TemporalNoiseFusionConfig = field(default_factory=TemporalNoiseFusionConfig)

    kind: ClassVar = "temporal_noise_fusion"
    config: ClassVar = TemporalNoiseFusionConfig
    build: ClassVar = TemporalNoiseFusion
    training: ClassVar = Training(
        names=("trip", "temporal_noise_fusion"),
        options=TripOptions,
        new=new_fusion,
        trains=trains,
        learning_rates=lambda options: {"adapter": 2e-4, "unet": 2e-6},  # section 4.1
        data={"target_fps": 4.0},
        usual=lambda base, folder: {"options": {"trained": "temporal"}},
    )

    @classmethod
    def of(cls, module: TemporalNoiseFusion, options: Any = None) -> "TripMethod":
        return cls(module, module.config)

    @property
    def sees_image(self) -> bool:
        return self.settings.position != "channel" or self.settings.image_features is not None

    def check(self, network: VideoUNet) -> None:
        own, base = self.settings, network.config
        if own.position == "channel" and not base.image_channels and own.image_features is None:
            raise ValueError(
                "the model has no channels for the given image, so it cannot join there: choose position begin or end, "
                "or an adapter that was trained on such a model with position channel"
            )
        if own.image_features is not None and (base.image_channels or own.image_features != base.model_channels):
            has = "channels for the image" if base.image_channels else f"{base.model_channels}"
            raise ValueError(
                f"the adapter brings the image to a first convolution of {own.image_features} outputs, the model's has "
                f"{has}; use the model that the adapter's page names"
            )

    def seams(self, call: NetworkCall) -> Seams:
        if self.settings.image_features is None or self.module is None:
            return Seams()
        return Seams(hint=self.module.image_hint(_image(call.conditions)))

    def around(self, call: NetworkCall, network: Network, schedule: Schedule, prediction: Prediction) -> Tensor:
        """Join the image to the clip, take it off the answer, and fuse that with the reference."""
        return self.fuse(call, self.residual(call, network, schedule, prediction), schedule, prediction)

    def residual(self, call: NetworkCall, network: Network, schedule: Schedule, prediction: Prediction) -> Tensor:
        """The network's answer to the clip with the image beside it (section 3.3), `b c t h w`.

        Raises ValueError for a timestep out of range, or an image that does not fit the clip.
        """
        image, position = _image(call.conditions), self.settings.position
        if call.carried is not None and position != "channel":
            raise ValueError("the image that TRIP joins to a clip would stand in every piece of it: animate it at once")
        check_image(call.x, image)
        conditions = call.conditions
        if conditions.image_tokens is not None and conditions.image_tokens.ndim == 4:
            tokens = join_tokens(conditions.image_tokens, call.x.shape[2], position)
            conditions = replace(conditions, image_tokens=tokens)
        if not self.settings.image_residual:
            joined = join_image(call.x, image - conditions.origin, position)
            return drop_image(network(replace(call, x=joined, conditions=conditions)), position)
        # Relative to the image, and back: the noise stays the same.
        levels = NoiseLevels.of(call, schedule)
        image_alone = (levels.scale * (image - conditions.origin)).expand_as(call.x)
        joined = join_image(call.x - levels.signal * image_alone, image, position)
        answer = drop_image(network(replace(call, x=joined, conditions=conditions)), position)
        return answer + levels.answer(prediction, image_alone)

    def fuse(self, call: NetworkCall, residual: Tensor, schedule: Schedule, prediction: Prediction) -> Tensor:
        """Fuse the network's answer with the reference that the given image stands for (equation 9 or 11).

        Both are taken in the network's own prediction: for eps they are the paper's noises. A residual model's
        predictions are led back to frames first, so that the reference always shows the image.

        Args:
            residual: the network's raw prediction, `b c t h w`.

        Raises ValueError for a timestep out of range, or an image that does not fit the clip.
        """
        z, settings = call.x, self.settings
        check_timesteps(call.timesteps, schedule)
        if settings.fusion == "none":
            return residual
        levels = NoiseLevels.of(call, schedule)
        moved = torch.as_tensor(levels.scale * call.conditions.origin).to(z).expand_as(z)
        # What the prediction of the origin alone would be: adding it turns predictions of differences into frames'.
        offset = levels.answer(prediction, moved)
        image = levels.scale * _image(call.conditions)
        reference = reference_prediction(prediction, z + levels.signal * moved, image, levels.alpha_bar)
        if settings.fusion == "linear":
            weights = fusion_weights(z.shape[2], settings.first_lambda, settings.last_lambda)
            return linear_fusion(reference, residual + offset, weights) - offset
        assert self.module is not None  # a learned fusion has weights
        return self.module(residual + offset, reference, call.timesteps) - offset


@dataclass(frozen=True)
class NoiseLevels:
    """Signal levels of a call's input: `alpha_bar` `b`, its root `signal` and `scale` `b 1 1 1 1`."""

    alpha_bar: Tensor
    signal: Tensor
    scale: Tensor

    @classmethod
    def of(cls, call: NetworkCall, schedule: Schedule) -> "NoiseLevels":
        """At the call's timesteps; raises ValueError for one out of range."""
        check_timesteps(call.timesteps, schedule)
        sigma = schedule.sigma_at(call.timesteps)
        alpha_bar = schedule.alpha_bar_at(sigma).float()
        signal, scale = (append_dims(each.to(call.x), call.x) for each in (alpha_bar.sqrt(), schedule.scale_at(sigma)))
        return cls(alpha_bar, signal, scale)

    def answer(self, prediction: Prediction, clean: Tensor) -> Tensor:
        """The raw prediction that names a clean clip `b c t h w` without noise."""
        return target(prediction, clean, torch.zeros_like(clean), self.alpha_bar)


def _image(conditions: Conditions) -> Tensor:
    if conditions.image_latent is None:
        raise ValueError("TRIP animates a given image: conditions.image_latent is needed, got None")
    return conditions.image_latent


def join_image(clip: Tensor, image: Tensor, position: Position) -> Tensor:
    """Concatenate the given image to a noised clip in time: `b c t h w` and `b c 1 h w` to `b c t+1 h w`.

    At the position `channel` the clip stays as it is: there the network's first convolution takes the image.
    """
    if position == "channel":
        return clip
    return torch.cat([image.to(clip), clip] if position == "begin" else [clip, image.to(clip)], dim=2)


def repeat_edge(frames: Tensor, position: Position) -> Tensor:
    """Repeat a per-frame tensor for the joined frame, from its neighbor: `b t ...` to `b t+1 ...`."""
    if position == "channel":
        return frames
    return torch.cat([frames[:, :1], frames] if position == "begin" else [frames, frames[:, -1:]], dim=1)


def join_tokens(tokens: Tensor, frames: int, position: Position) -> Tensor:
    """Give the joined frame the image tokens of its neighbor: `b t k d` of any length to `b frames+1 k d`."""
    return repeat_edge(resample_image_tokens(tokens, frames), position)


def drop_image(clip: Tensor, position: Position) -> Tensor:
    """Take the given image's frame off again: the inverse of `join_image`."""
    return {"begin": clip[:, :, 1:], "end": clip[:, :, :-1], "channel": clip}[position]


def check_timesteps(timesteps: Tensor, schedule: Schedule) -> None:
    """Refuse timesteps outside [0, T)."""
    total = schedule.config.timesteps
    if not bool(((timesteps >= 0) & (timesteps < total)).all()):
        raise ValueError(
            f"timesteps must lie in [0, {total}), got {timesteps.min().item():g} to {timesteps.max().item():g}"
        )
