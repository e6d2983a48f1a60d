"""Control rows: clips that a measure must be able to tell from the ground truth before it may support a claim."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = ("truth", "frozen", "shuffled", "noise", "wrong caption")
NOISE = 0.5  # deviation of the noise laid over the frozen clip; pixels lie in [-1, 1]


@dataclass(frozen=True)
class Control:
    """A clip `c t h w` in place of a result, and the caption that goes with it."""

    clip: Tensor
    caption: str | None


def control_clips(truth: Tensor, caption: str | None, wrong_caption: str | None, *, seed: str) -> dict[str, Control]:
    """Control rows of one item by name.

    `truth` is the clip itself, `frozen` its first frame repeated, `shuffled` its frames in another order, `noise` the
    frozen clip under independent noise, `wrong caption` the clip with the caption of another item.

    Args:
        truth: pixels in [-1, 1], `c t h w`, at least two frames.
        seed: of the order and the noise, any text.
    """
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big")
    frames, generator = truth.shape[1], torch.Generator().manual_seed(number)
    order = torch.randperm(frames, generator=generator)
    if torch.equal(order, torch.arange(frames)):
        order = order.roll(1)
    frozen = truth[:, :1].expand_as(truth)
    noise = torch.randn(truth.shape, generator=generator).to(truth)
    rows = {
        "truth": Control(truth, caption),
        "frozen": Control(frozen.contiguous(), caption),
        "shuffled": Control(truth[:, order], caption),
        "noise": Control((frozen + NOISE * noise).clamp(-1, 1), caption),
    }
    return rows if wrong_caption is None else rows | {"wrong caption": Control(truth, wrong_caption)}
