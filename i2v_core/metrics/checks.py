"""Checks of the input that all measures share."""

import torch
from torch import Tensor


def finite(values: Tensor, what: str) -> Tensor:
    """Return the values in float32 or better; raises ValueError if one is NaN or infinite, naming `what`."""
    if not torch.isfinite(values).all():
        broken = int((~torch.isfinite(values)).sum())
        raise ValueError(
            f"{what} hold {broken} NaN or infinite values of {values.numel()}: expected finite numbers. "
            "Run the network that made them in float32, or look for a broken clip."
        )
    return values if values.dtype == torch.float64 else values.float()


def same_shape(a: Tensor, b: Tensor, what: str) -> None:
    """Raise ValueError unless both have one shape; `what` names the two."""
    if a.shape != b.shape:
        raise ValueError(
            f"{what} must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}: "
            "read both with the same number of frames and the same size."
        )


def at_least(count: int, needed: int, what: str) -> None:
    """Raise ValueError if there are fewer than needed; `what` names what is counted and for which measure."""
    if count < needed:
        raise ValueError(f"{what} needs at least {needed}, got {count}.")
