"""Frame steps: how much a clip changes from each frame to the next, to see whether a join jumps."""

from collections.abc import Sequence

import torch
from torch import Tensor


def frame_steps(clip: Tensor) -> Tensor:
    """Root mean square difference of each frame to the next.

    Args:
        clip: pixels in [-1, 1], `c t h w`, at least two frames.

    Returns:
        `t-1`, in levels of 0..255.
    """
    if clip.shape[1] < 2:
        raise ValueError(f"steps between frames need at least two frames, got {clip.shape[1]}")
    return clip.float().diff(dim=1).square().mean((0, 2, 3)).sqrt() * 127.5


def join_ratios(clip: Tensor, joins: Sequence[int]) -> Tensor:
    """The step at each join, relative to the largest other step of the two parts that meet there.

    Args:
        clip: pixels in [-1, 1], `c t h w`.
        joins: frames that two parts share, in order; each is the last of one part, and the step behind it is the
            join's. Parts have at least two steps.

    Returns:
        `len(joins)`; up to 1 the join is no larger than what happens inside the parts.
    """
    steps = frame_steps(clip)
    edges = [0, *joins, len(steps)]
    ratios = [
        steps[join] / torch.cat([steps[before + (before > 0) : join], steps[join + 1 : after]]).max()
        for before, join, after in zip(edges, joins, edges[2:], strict=False)
    ]
    return torch.stack(ratios)
