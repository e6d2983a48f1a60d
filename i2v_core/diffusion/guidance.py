"""Classifier-free guidance (arXiv:2207.12598) with guidance rescale (arXiv:2305.08891, section 3.4)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def rescale_to(guided: Tensor, conditional: Tensor, amount: float) -> Tensor:
    """Return the guided prediction with its spread drawn towards the conditional one's.

    The standard deviation runs over all axes but the batch. A guided prediction without spread stays
    as it is.

    Args:
        guided: raw prediction (eps or v) after guidance, `b c t h w`.
        conditional: raw conditional prediction, `b c t h w`.
        amount: 0 for none, 1 for the conditional spread exactly.
    """
    if amount == 0:
        return guided
    wanted, present = _spread(conditional), _spread(guided)
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
        """Whether the unconditional pass has any weight."""
        return self.scale != 1

    def combine(self, conditional: Tensor, unconditional: Tensor | None = None) -> Tensor:
        """Return `u + scale (c - u)`, rescaled; the conditional prediction itself at scale 1.

        Args:
            conditional: raw prediction (eps or v, never the clean estimate), `b c t h w`.
            unconditional: the same under the null condition; not used at scale 1.

        Raises:
            ValueError: the unconditional prediction is needed and missing, or of another shape.
        """
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


def _spread(prediction: Tensor) -> Tensor:
    # In float32, so that the ratio of two spreads is not rounded to half precision.
    axes = tuple(range(1, prediction.ndim))
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32)).std(dim=axes, correction=0, keepdim=True)
