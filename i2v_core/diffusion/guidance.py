"""Guidance of raw predictions: classifier-free (arXiv:2207.12598), and with text and image apart (arXiv:2312.03018).

Both know guidance rescale (arXiv:2305.08891, section 3.4).
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor


def rescale_to(guided: Tensor, conditional: Tensor, amount: float) -> Tensor:
    """Return the guided prediction with its standard deviation drawn towards the conditional one's.

    The standard deviation runs over all axes but the batch. A constant guided prediction stays as it is.

    Args:
        guided: raw prediction (eps or v) after guidance, `b c t h w`.
        conditional: raw conditional prediction, `b c t h w`.
        amount: 0 for none, 1 for the conditional one exactly.
    """
    if amount == 0:
        return guided
    wanted, present = _std(conditional), _std(guided)
    ratio = torch.where(present > 0, wanted / present, 1.0)
    return (guided * (amount * ratio + (1 - amount))).to(guided.dtype)


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Guidance of raw network predictions: how far to go from the unconditional beyond the conditional one.

    `scale` 1 is the conditional prediction alone, `rescale` in [0, 1] is the amount for `rescale_to`.

    Raises ValueError for a scale that is not finite or a rescale outside [0, 1].
    """

    scale: float = 7.5
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"guidance scale must be finite, got {self.scale}")
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"guidance rescale must be in [0, 1], got {self.rescale}")

    @property
    def needs_unconditional(self) -> bool:
        """The unconditional pass has a weight other than zero."""
        return self.scale != 1

    @property
    def needed(self) -> tuple[bool, bool]:
        """The conditional and the unconditional pass have a weight other than zero."""
        return True, self.needs_unconditional

    def combine(self, conditional: Tensor | None, unconditional: Tensor | None = None) -> Tensor:
        """Return `u + scale (c - u)`, rescaled; the conditional prediction itself at scale 1.

        Args:
            conditional: raw prediction (eps or v, never the clean estimate), `b c t h w`.
            unconditional: the same under the null condition; not used at scale 1.

        Raises:
            ValueError: the unconditional prediction is needed and missing, or of another shape.
        """
        if conditional is None:
            raise ValueError("guidance needs the conditional prediction, got None")
        if not self.needs_unconditional:
            return conditional
        if unconditional is None:
            raise ValueError(
                f"guidance scale {self.scale} needs the unconditional prediction, got None: pass it or set scale 1"
            )
        if unconditional.shape != conditional.shape:
            raise ValueError(
                f"unconditional prediction must have the conditional one's shape {tuple(conditional.shape)}, "
                f"got {tuple(unconditional.shape)}"
            )
        guided = unconditional + self.scale * (conditional - unconditional)
        return rescale_to(guided, conditional, self.rescale)


ScaleKind = Literal["constant", "linear", "cosine", "interval"]
GuidanceOrder = Literal["text_first", "image_first"]
NO_WEIGHT = 1e-6  # what rounding leaves of a weight that should be zero


@dataclass(frozen=True)
class ScaleSchedule:
    """A guidance scale over the steps.

    Attributes:
        scale: at the first step, or within the interval.
        kind: "constant"; "linear" or "cosine" from `scale` at the first step to `end` at the last; "interval": `scale`
            from the share `start` of the steps to the share `stop`, both included, and `end` outside.

    Raises ValueError for a scale that is not finite, an unknown kind, or shares out of order or outside [0, 1].
    """

    scale: float
    kind: ScaleKind = "constant"
    end: float = 1.0
    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.end)):
            raise ValueError(f"guidance scales must be finite, got {self.scale} and {self.end}")
        if self.kind not in get_args(ScaleKind):
            raise ValueError(f"a scale's schedule must be one of {get_args(ScaleKind)}, got {self.kind!r}")
        if not 0 <= self.start <= self.stop <= 1:
            raise ValueError(f"an interval of steps needs 0 <= start <= stop <= 1, got {self.start} and {self.stop}")

    def at(self, progress: float) -> float:
        """The scale at a share of the steps in [0, 1], 0 the first and 1 the last."""
        if self.kind == "linear":
            return self.scale + progress * (self.end - self.scale)
        if self.kind == "cosine":
            return self.end + (1 + math.cos(math.pi * progress)) / 2 * (self.scale - self.end)
        if self.kind == "interval" and not self.start <= progress <= self.stop:
            return self.end
        return self.scale


def parse_scale(text: str) -> ScaleSchedule:
    """Read `4`, `linear:4:1`, `cosine:4:1` or `interval:4:1:0.2:0.8` (kind, scale, end, start, stop).

    Raises ValueError for anything else.
    """
    kind, *numbers = text.split(":") if ":" in text else ("constant", text)
    try:
        scale, *further = map(float, numbers)
        return ScaleSchedule(scale, kind, *further)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ValueError(f"'{text}' is no scale such as 4, linear:4:1 or interval:4:1:0.2:0.8: {error}") from error


def progress_at(sigma: Tensor, sigmas: Tensor) -> float:
    """Position of a sigma among those of a run: 0 at the first step, 1 at the last, between two by their distance.

    Args:
        sigma: 0-d.
        sigmas: descending, `n + 1`, of which the last is only arrived at.
    """
    levels, level = sigmas.tolist()[:-1], float(sigma)
    if len(levels) < 2 or level >= levels[0]:
        return 0.0
    passed = sum(level <= above for above in levels)
    if passed == len(levels):
        return 1.0
    within = (levels[passed - 1] - level) / (levels[passed - 1] - levels[passed])
    return (passed - 1 + within) / (len(levels) - 1)


@dataclass(frozen=True)
class DualGuidance:
    """Double-condition guidance: text and image have a scale each.

    Text first is DreamVideo's equation 5, `f(0,0) + s_t (f(t,0) - f(0,0)) + s_i (f(t,i) - f(t,0))`; image first is
    `f(0,0) + s_i (f(0,i) - f(0,0)) + s_t (f(t,i) - f(0,i))`, DynamiCrafter's. `rescale` as in ClassifierFreeGuidance.

    Raises ValueError for a scale that is not finite, an unknown order, or a rescale outside [0, 1].
    """

    text: ScaleSchedule | float
    image: ScaleSchedule | float
    order: GuidanceOrder = "text_first"
    rescale: float = 0.0

    def __post_init__(self) -> None:
        for scale in (self.text, self.image):
            if not isinstance(scale, ScaleSchedule) and not math.isfinite(scale):
                raise ValueError(f"guidance scales must be finite, got text {self.text} and image {self.image}")
        if self.order not in get_args(GuidanceOrder):
            raise ValueError(f"the order must be one of {get_args(GuidanceOrder)}, got {self.order!r}")
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"guidance rescale must be in [0, 1], got {self.rescale}")

    def at(self, progress: float) -> "DualGuidanceWeights":
        """The weights at a share of the steps in [0, 1]."""
        text, image = (
            scale.at(progress) if isinstance(scale, ScaleSchedule) else scale for scale in (self.text, self.image)
        )
        first, second = (text, image) if self.order == "text_first" else (image, text)
        return DualGuidanceWeights(second, first - second, 1 - first, self.rescale)


@dataclass(frozen=True)
class DualGuidanceWeights:
    """Double-condition guidance at one step: the weights of f(t,i), of the one condition that comes first, of f(0,0).

    They sum to one, so that they mean the same for noise, v and clean estimates.
    """

    full: float
    single: float
    null: float
    rescale: float = 0.0

    @property
    def needed(self) -> tuple[bool, bool, bool]:
        """Those of the three passes that have a weight other than zero."""
        full, single, null = (abs(weight) > NO_WEIGHT for weight in (self.full, self.single, self.null))
        return full, single, null

    def combine(self, *predictions: Tensor | None) -> Tensor:
        """Return the guided prediction, rescaled to the fullest one that has weight.

        Args:
            predictions: raw, `b c t h w` each: f(t,i), f(t,0) or f(0,i) by the order, f(0,0).

        Raises:
            ValueError: one that is needed is missing, or of another shape.
        """
        all_weights = (self.full, self.single, self.null)
        weights = [weight for weight, used in zip(all_weights, self.needed, strict=True) if used]
        given = [prediction for prediction, used in zip(predictions, self.needed, strict=True) if used]
        used = [prediction for prediction in given if prediction is not None]
        if len(used) < len(given) or len({prediction.shape for prediction in used}) > 1:
            arrived = [None if prediction is None else tuple(prediction.shape) for prediction in given]
            raise ValueError(f"guidance with the weights {all_weights} needs predictions of one shape, got {arrived}")
        if len(used) == 1:
            return used[0]
        # By differences from the emptiest on: large weights that cancel would cost half precision its digits.
        guided, share = used[-1], 1 - weights[-1]
        for i in range(len(used) - 2, -1, -1):
            guided = guided + share * (used[i] - used[i + 1])
            share -= weights[i]
        return rescale_to(guided, used[0], self.rescale)


# What combines raw predictions, `needed` and `combine`, the fullest conditions first.
Guidance: TypeAlias = ClassifierFreeGuidance | DualGuidanceWeights


def _std(prediction: Tensor) -> Tensor:
    # In float32, so that the ratio of two standard deviations is not rounded to half precision.
    axes = tuple(range(1, prediction.ndim))
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32)).std(dim=axes, correction=0, keepdim=True)
