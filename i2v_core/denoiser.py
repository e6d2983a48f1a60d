"""The denoiser: network and conditions joined once, for training, generation and the nodes alike."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from .conditions import Conditions, join_conditions
from .diffusion.guidance import ClassifierFreeGuidance, Guidance
from .diffusion.image_noise_prior import check_image
from .diffusion.initialization import Initialization, first_estimate, first_input, first_state
from .diffusion.prediction import Prediction, network_input, recount, to_denoised
from .diffusion.schedule import Schedule
from .model.image_injection import ImageAdapter, check_image_sites
from .model.image_retention import ImageRetention
from .model.look_back import LookBack, LookBackState, check_sites, find_sites
from .model.temporal_noise_fusion import TemporalNoiseFusion
from .model.video_unet import AfterBlock, Residuals, VideoUNet
from .presets import Preset
from .temporal_residual import drop_image, fuse, join_image, join_tokens
from .weights.adapters import Adapter, check_replacement, mean_weights, replace_weights


@dataclass(frozen=True)
class Denoiser:
    """A network with the schedule and the prediction that it was trained for.

    With `image_residual` the network's clean clip is the difference to the given image's latent, in which a still clip
    is zero. In terms of noise this is the shortcut path of TRIP (arXiv:2403.17005, section 3.2): the reference noise
    of the image, and the network's residual beside it.

    With `temporal_noise_fusion` the network sees the given image beside the clip, as TRIP does, and its answer is fused
    with the reference.

    With `look_back` the clip begins with the given image, in the way that `initialization` says.

    With `image_projection` the network's cross-attentions see the given image's tokens beside the text, as
    DynamiCrafter's do.
    """

    network: VideoUNet
    schedule: Schedule
    prediction: Prediction
    image_residual: bool = False
    temporal_noise_fusion: TemporalNoiseFusion | None = None
    image_retention: ImageRetention | None = None
    look_back: LookBack | None = None
    initialization: Initialization = "hybrid"
    image_projection: ImageAdapter | None = None

    def __post_init__(self) -> None:
        if self.image_projection is not None:
            check_image_sites(self.image_projection.config.injection, self.network)
        if self.look_back is not None:
            config = self.network.config
            blocks = find_sites("layer", config.model_channels, config.channel_mult, config.num_res_blocks)
            check_sites(self.look_back.config, blocks)
        if self.image_retention is None or self.image_retention.config.unet == self.network.config:
            return
        theirs, own = asdict(self.image_retention.config.unet), asdict(self.network.config)
        name = next(name for name in own if own[name] != theirs[name])
        raise ValueError(
            f"the image retention branch was trained beside another base, whose {name} is {theirs[name]} and the "
            f"model's {own[name]}; use the base that the adapter's page names"
        )

    @classmethod
    def of(cls, network: VideoUNet, preset: Preset) -> "Denoiser":
        """The denoiser of a network that was trained as its preset says."""
        return cls(network, Schedule(preset.schedule), preset.prediction, preset.image_residual)

    @classmethod
    def adapted(cls, network: VideoUNet, preset: Preset, adapters: Iterable[Adapter]) -> "Denoiser":
        """The denoiser with adapters, whose weights of the base replace the network's own, averaged where they meet.

        Raises ValueError for two adapters of one kind, and for one that was trained with another base.
        """
        denoiser, adapters = cls.of(network, preset), list(adapters)
        for adapter in adapters:
            if getattr(denoiser, adapter.kind, None) is not None:
                raise ValueError(f"two adapters of kind {adapter.kind} were given; use one")
            check_replacement(network.state_dict(), adapter.unet, f"the adapter of kind {adapter.kind}")
            denoiser = replace(denoiser, **cast(Any, {adapter.kind: adapter.module}))
        replace_weights(network, mean_weights(adapter.unet for adapter in adapters))
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

    def prepare(self, conditions: Conditions) -> Conditions:
        """Add what stays the same at every step: the hint of image retention, and an adapter's image tokens.

        Raises ValueError if one of them is needed and there is no image.
        """
        image = conditions.image
        if self.image_retention is not None and conditions.image_hint is None:
            if image is None:
                raise ValueError(
                    "image retention needs the given image's pixels, got conditions.image None; white is none"
                )
            conditions = replace(conditions, image_hint=self.image_retention.hint(image))
        if self.image_projection is not None and conditions.image_tokens is None:
            if image is None:
                raise ValueError("the image projection needs the given image's pixels, got conditions.image None")
            conditions = replace(conditions, image_tokens=self.image_projection.tokens(image))
        return conditions

    def without_image_tokens(self, conditions: Conditions) -> Conditions:
        """The conditions with the tokens of a mid-grey picture, which stand for "no image" (DynamiCrafter).

        They stay as they are without an image projection, or where the tokens came from outside.
        """
        if self.image_projection is None or conditions.image is None or conditions.image_tokens is not None:
            return conditions
        return replace(conditions, image_tokens=self.image_projection.null_tokens(conditions.image))

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
        conditions = self.prepare(conditions)
        if self.temporal_noise_fusion is not None:
            return self._predict_fused(z, timesteps, conditions, self.temporal_noise_fusion, carried)
        return self._run(z, timesteps, conditions, carried)

    def _run(
        self,
        z: Tensor,
        timesteps: Tensor,
        conditions: Conditions,
        carried: LookBackState | None = None,
        hint: Tensor | None = None,
    ) -> Tensor:
        x = with_image_latent(z, self._on_channels(z, conditions), self.network.config.in_channels)
        injection = None if self.image_projection is None else self.image_projection.injection
        detail = None if injection is None else injection.hint(conditions.image_latent)
        return self.network(
            x,
            timesteps,
            conditions.text,
            image_tokens=conditions.image_tokens,
            fps=conditions.fps,
            pooled_text=conditions.pooled_text,
            residuals=self._retained(x, timesteps, conditions),
            after_block=self._after_block(carried),
            hint=detail if hint is None else hint if detail is None else hint + detail,
            image_streams=None if injection is None else injection.streams,
            known=None if conditions.known is None else conditions.known.setdefault(x.shape[2], {}),
        )

    def _on_channels(self, z: Tensor, conditions: Conditions) -> Tensor | None:
        """The image latent for the network's channels, which a network may do without if it sees the image elsewhere.

        Elsewhere is: in the clip itself, in the branch of image retention, or in image tokens.
        """
        fusion = self.temporal_noise_fusion
        by_fusion = fusion is not None and (fusion.config.position != "channel" or fusion.config.image_features)
        by_adapter = self.look_back or self.image_retention or self.image_projection
        elsewhere = by_fusion or by_adapter is not None or conditions.image_tokens is not None
        if elsewhere and self.network.config.in_channels == z.shape[1]:
            return None
        return conditions.image_latent

    def _after_block(self, carried: LookBackState | None) -> AfterBlock | None:
        if self.look_back is None:
            return None
        return self.look_back.after_block(carried, keep_first=self.initialization == "inversion")

    def _retained(self, x: Tensor, timesteps: Tensor, conditions: Conditions) -> Residuals | None:
        """What image retention adds (DreamVideo, equation 3)."""
        if self.image_retention is None:
            return None
        assert conditions.image_hint is not None  # `predict` has prepared it
        return self.image_retention(
            x,
            timesteps,
            conditions.text,
            conditions.image_hint,
            image_tokens=conditions.image_tokens,
            fps=conditions.fps,
            pooled_text=conditions.pooled_text,
        )

    def _predict_fused(
        self,
        z: Tensor,
        timesteps: Tensor,
        conditions: Conditions,
        fusion: TemporalNoiseFusion,
        carried: LookBackState | None,
    ) -> Tensor:
        image, position = conditions.image_latent, fusion.config.position
        if image is None:
            raise ValueError("TRIP animates a given image: conditions.image_latent is needed, got None")
        if carried is not None and position != "channel":
            raise ValueError("the image that TRIP joins to a clip would stand in every piece of it: animate it at once")
        check_image(z, image)
        origin = self.origin(conditions)
        if conditions.image_tokens is not None and conditions.image_tokens.ndim == 4:
            tokens = join_tokens(conditions.image_tokens, z.shape[2], position)
            conditions = replace(conditions, image_tokens=tokens)
        joined = join_image(z, image - origin, position)
        answer = self._run(joined, timesteps, conditions, carried, fusion.image_hint(image))
        residual = drop_image(answer, position)
        return fuse(fusion, residual, z, timesteps, image, origin, self.schedule, self.prediction)

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
        if guidance.needs_unconditional and unconditional is None:
            raise ValueError(
                f"guidance of scale {guidance.scale} needs unconditional conditions, got None: pass them or scale 1"
            )
        return self.denoise_branches(y, sigma, (conditional, unconditional), guidance, carried=carried)

    def denoise_branches(
        self,
        y: Tensor,
        sigma: Tensor,
        branches: Sequence[Conditions | None],
        guidance: Guidance,
        *,
        together: bool = False,
        carried: LookBackState | None = None,
    ) -> Tensor:
        """Estimate the clean latents under a guidance of several branches, each with an image and origin of its own.

        The branches' predictions are counted from the origin of the first that is run, so that they can be combined;
        a branch of no weight is not run and may be None.

        Args:
            branches: the fullest conditions first.
            together: run them as one batch where their shapes and the memory allow it; else one after another.
                Look-back always tries, because its loop over the frames is then walked once.
            carried: as for `denoise`.

        Raises ValueError if a branch that has weight is None or of another size than the clip.
        """
        needed = [i for i, used in enumerate(guidance.needed) if used]
        given = [branches[i] for i in needed]
        conditions = [each for each in given if each is not None]
        if len(conditions) < len(given):
            raise ValueError(f"the guidance needs the branches {needed}, got {[each is not None for each in branches]}")
        for each in conditions:
            if len(each.text) != len(y):
                raise ValueError(f"every branch needs conditions of the {len(y)} clips, got {len(each.text)}")
        scale, origins = self.schedule.scale_at(sigma), [self.origin(each) for each in conditions]
        begins = self.look_back is not None and (carried is None or not carried.begun)
        states = [network_input(y - origin, sigma, scale) for origin in origins]
        if begins:
            states = [
                first_input(self.initialization, z, self.given(each) - origin)
                for z, each, origin in zip(states, conditions, origins, strict=True)
            ]
        outputs = self._outputs(states, sigma, conditions, together or self.look_back is not None, carried)
        predictions: list[Tensor | None] = [None] * len(branches)
        for i, output, origin in zip(needed, outputs, origins, strict=True):
            predictions[i] = recount(self.prediction, output, origin - origins[0], sigma, scale)
        guided = guidance.combine(*predictions)
        denoised = to_denoised(self.prediction, guided, y - origins[0], sigma, scale) + origins[0]
        return first_estimate(self.initialization, denoised, self.given(conditions[0])) if begins else denoised

    def start(self, y: Tensor, sigmas: Tensor, conditional: Conditions) -> Tensor:
        """Where sampling a look-back clip begins: noise `b c t h w` at the first sigma, with its frame 0 prepared."""

        def denoise_first(state: Tensor, sigma: Tensor) -> Tensor:
            return self.denoise(state, sigma, conditional, None, ClassifierFreeGuidance(1.0))

        return first_state(self.initialization, y, self.given(conditional), sigmas, denoise_first)

    def _outputs(
        self,
        states: list[Tensor],
        sigma: Tensor,
        conditions: list[Conditions],
        together: bool,
        carried: LookBackState | None,
    ) -> list[Tensor]:
        """The network's answers to each of the states under its conditions."""
        timesteps = self.schedule.timestep(sigma).to(states[0].device)
        alone = len(conditions) == 1
        joined = conditions[0] if alone else join_conditions(conditions) if together else None
        if joined is None and carried is not None:
            raise ValueError(
                "a video in pieces needs conditions of one shape in all guidance branches: encode their texts alike, "
                "and give every branch an image or none"
            )
        if joined is not None:
            z = torch.cat(states)
            try:
                answers = self.predict(z, timesteps.expand(len(z)), joined, carried=carried)
                return list(answers.chunk(len(conditions)))
            except torch.OutOfMemoryError:
                if alone or carried is not None:
                    raise
                # One after another needs less.
        return [self.predict(z, timesteps.expand(len(z)), each) for z, each in zip(states, conditions, strict=True)]


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
