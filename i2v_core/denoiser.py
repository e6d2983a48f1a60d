"""The denoiser: a base network, its noise and the methods at work on it, for training and generation alike."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import TypeVar

import torch
from torch import Tensor

from .conditions import Conditions, join_conditions
from .diffusion.guidance import ClassifierFreeGuidance, Guidance
from .diffusion.initialization import FREE, Initialization, InitializationName
from .diffusion.prediction import Prediction, network_input, reexpress, to_denoised
from .diffusion.schedule import Schedule
from .methods import LookBackMethod, Method, NetworkCall
from .methods.look_back import begin_with
from .methods.method import Network
from .model.look_back import LookBackState
from .model.seams import Seams
from .model.video_unet import VideoUNet
from .model.visual_detail import with_image_latent
from .presets import Preset
from .weights.adapters import Adapter, check_replacement, mean_weights, replace_weights

M = TypeVar("M", bound=Method)
Answer = Callable[[Tensor, Tensor, Conditions, LookBackState | None], Tensor]


@dataclass(frozen=True)
class Denoiser:
    """A network with the schedule and the prediction that it was trained for, and methods that extend it.

    With `image_residual` it is a residual model: its clean clip is the difference to the given image's latent, in which
    a still clip is zero. The idea of a shortcut is TRIP's (arXiv:2403.17005, section 3.2), the formula is not: equation
    9 blends the reference and the residual by lambda, this adds the image's latent to the clean estimate with full
    weight. `TripMethod` is equation 9.

    Raises ValueError for two methods of one kind, and for one that does not belong to the network.
    """

    network: VideoUNet
    schedule: Schedule
    prediction: Prediction
    image_residual: bool = False
    methods: tuple[Method, ...] = ()

    def __post_init__(self) -> None:
        kinds = [method.kind for method in self.methods]
        if twice := next((kind for kind in kinds if kinds.count(kind) > 1), None):
            raise ValueError(f"two adapters of kind {twice} were given; use one")
        for method in self.methods:
            method.check(self.network)

    @classmethod
    def of(cls, network: VideoUNet, preset: Preset, *methods: Method) -> "Denoiser":
        """The denoiser of a network that was trained as its preset says."""
        return cls(network, Schedule(preset.schedule), preset.prediction, preset.image_residual, methods)

    @classmethod
    def adapted(cls, network: VideoUNet, preset: Preset, adapters: Iterable[Adapter]) -> "Denoiser":
        """The denoiser with adapters, whose weights of the base replace the network's own, averaged where they meet.

        Each works as it was trained, and on the noise that it was trained on.

        Raises ValueError for two adapters of one kind, for one that was trained with another base, and for adapters
        that were trained on different noise.
        """
        adapters = list(adapters)
        for adapter in adapters:
            check_replacement(network.state_dict(), adapter.unet, f"the adapter of kind {adapter.kind}")
        if len(betas := {adapter.betas for adapter in adapters}) > 1:
            raise ValueError(f"the adapters were trained on different betas, {sorted(betas)}: use one of them alone")
        for each in betas:
            preset = preset.on(each)
        denoiser = cls.of(network, preset, *(adapter.method for adapter in adapters))
        replace_weights(network, mean_weights(adapter.unet for adapter in adapters))
        return denoiser

    def find(self, method: type[M]) -> M | None:
        """The method of this class, if it is at work."""
        return next((each for each in self.methods if isinstance(each, method)), None)

    def begun(self, name: InitializationName | None, *, exact_first: bool = True) -> "Denoiser":
        """The denoiser whose clips begin otherwise; None keeps the way that look-back was trained with.

        Raises ValueError without look-back, and for a lossy first frame where it is always exact.
        """
        look_back = self.find(LookBackMethod)
        if look_back is None:
            raise ValueError(
                "an initialization is look-back's, and there is no adapter of it: give one, or leave it out"
            )
        begins = Initialization(name or look_back.initialization.name, exact_first)
        if not exact_first and not begins.inverts:
            raise ValueError(f"frame 0 is exact with {begins.name}; only inversion loses some of the given image")
        return replace(self, methods=begin_with(self.methods, begins))

    @property
    def initialization(self) -> Initialization:
        """Initialization of a clip: look-back's with the given image, all others freely."""
        look_back = self.find(LookBackMethod)
        return FREE if look_back is None else look_back.initialization

    @property
    def sees_image(self) -> bool:
        """The given image's latent reaches the network, on its channels or through a method."""
        methods = any(method.sees_image for method in self.methods)
        return methods or self.image_residual or self.network.config.image_channels > 0

    def prepare(self, conditions: Conditions) -> Conditions:
        """Add what stays the same at every step: the reference latent, and what methods find of the image.

        Raises ValueError if one of them is needed and there is no image.
        """
        if self.image_residual and conditions.reference is None:
            if conditions.image_latent is None:
                raise ValueError("this model animates a given image: conditions.image_latent is needed, got None")
            conditions = replace(conditions, reference=conditions.image_latent)
        for method in self.methods:
            conditions = method.prepare(conditions)
        return conditions

    def without_image(self, conditions: Conditions, given: Conditions) -> Conditions:
        """Conditions of "no image" as the methods were trained; `given` are those with the image."""
        for method in self.methods:
            conditions = method.without_image(conditions, given)
        return conditions

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
            ValueError: the network has channels for the given image's latent and none was given, or the other way
                round.
        """
        return self._answer(z, timesteps, self.prepare(conditions), carried)

    def _answer(self, z: Tensor, timesteps: Tensor, conditions: Conditions, carried: LookBackState | None) -> Tensor:
        network: Network = self._run
        for method in self.methods:
            network = partial(method.around, network=network, schedule=self.schedule, prediction=self.prediction)
        return network(NetworkCall(z, timesteps, conditions, carried))

    def _run(self, call: NetworkCall) -> Tensor:
        given, channels = call.conditions, self.network.config.in_channels
        elsewhere = given.image_tokens is not None or any(method.sees_image for method in self.methods)
        latent = None if elsewhere and channels == call.x.shape[1] else given.image_latent
        call = replace(call, x=with_image_latent(call.x, latent, channels))
        seams = reduce(add, (method.seams(call) for method in self.methods), Seams())
        known = None if given.known is None else given.known.setdefault(call.x.shape[2], {})
        return self.network(**call.inputs, seams=seams, known=known)

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
        """Estimate the clean latents under a guidance of several branches, each with an image of its own.

        Predictions are re-expressed relative to the reference latent of the first branch that is run, so that they can
        be combined; a branch of no weight is not run and may be None.

        Args:
            branches: the fullest conditions first.
            together: run them as one batch where their shapes and the memory allow it; else one after another.
                Look-back always tries, because its loop over the frames is then walked once.
            carried: as for `denoise`.

        Raises ValueError if a branch that has weight is None or of another size than the clip.
        """
        needed = [i for i, used in enumerate(guidance.needed) if used]
        conditions = [self.prepare(each) for each in _checked(branches, needed, len(y))]
        scale, origins = self.schedule.scale_at(sigma), [each.origin for each in conditions]
        first = self.initialization if carried is None or not carried.begun else FREE
        states = [
            first.input(network_input(y - each.origin, sigma, scale), each.first_frame, each.origin)
            for each in conditions
        ]
        together = together or self.initialization != FREE
        timestep = self.schedule.timestep(sigma).to(y.device)
        outputs = in_one_batch(self._answer, states, timestep, conditions, together, carried)
        predictions: list[Tensor | None] = [None] * len(branches)
        for i, output, origin in zip(needed, outputs, origins, strict=True):
            predictions[i] = reexpress(self.prediction, output, origin - origins[0], sigma, scale)
        guided = guidance.combine(*predictions)
        denoised = to_denoised(self.prediction, guided, y - origins[0], sigma, scale) + origins[0]
        return first.estimate(denoised, conditions[0].first_frame)

    def start(self, y: Tensor, sigmas: Tensor, conditional: Conditions) -> Tensor:
        """The state at which sampling starts, of noise `b c t h w` at the first sigma, with its frame 0 prepared."""

        def denoise_first(state: Tensor, sigma: Tensor) -> Tensor:
            return self.denoise(state, sigma, conditional, None, ClassifierFreeGuidance(1.0))

        return self.initialization.start(y, conditional.first_frame, sigmas, denoise_first)


def in_one_batch(
    answer: Answer, states: list[Tensor], timestep: Tensor, conditions: list[Conditions], together: bool,
    carried: LookBackState | None,
) -> list[Tensor]:  # fmt: skip
    """Answers to each of the states under its conditions, in one run where the shapes and the memory allow it.

    Raises ValueError if look-back carries something and one run is not possible.
    """
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
            return list(answer(z, timestep.expand(len(z)), joined, carried).chunk(len(conditions)))
        except torch.OutOfMemoryError:
            if alone or carried is not None:
                raise
            # One after another needs less.
    return [answer(z, timestep.expand(len(z)), each, None) for z, each in zip(states, conditions, strict=True)]


def _checked(branches: Sequence[Conditions | None], needed: list[int], clips: int) -> list[Conditions]:
    """The branches that have weight."""
    given = [branches[i] for i in needed]
    found = [each for each in given if each is not None]
    if len(found) < len(given):
        raise ValueError(f"the guidance needs the branches {needed}, got {[each is not None for each in given]}")
    for each in found:
        if len(each.text) != clips:
            raise ValueError(f"every branch needs conditions of the {clips} clips, got {len(each.text)}")
    return found
