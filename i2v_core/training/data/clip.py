"""What a data set gives: one clip for every number, without end, the same for the same number."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip with what it is made from.

    Attributes:
        image: pixels of the given picture, `c h w` in [-1, 1].
        image_index: which frame of the clip it is.
        caption: "" if there is none.
        pixels: `c t h w` in [-1, 1]; None if latents come from the cache.
        latents: `c t h w` as the autoencoder gives them; None without a cache.
        fps: frames per second that the clip's frames are apart; None where nobody knows.
        text, pooled_text: features of the caption from the cache, `n d` and `d`.
        name: the file, for messages.
    """

    image: Tensor
    image_index: int
    caption: str
    pixels: Tensor | None = None
    latents: Tensor | None = None
    fps: float | None = None
    text: Tensor | None = None
    pooled_text: Tensor | None = None
    name: str = ""


class ClipData(Protocol):
    """An endless data set. What `clip(item)` gives depends on the configuration and on `item` alone.

    One pass over files takes `len(data)` items; every pass has an order of its own. With aspect buckets all items
    of one group, `item // config.group`, have one size: a batch must lie within a group. Items `step * batch + i` do if
    `batch` divides `group`, and so do the batches of several processes that share a group.
    """

    def clip(self, item: int) -> Clip: ...

    def fingerprint(self) -> str:
        """What tells this data from other data."""

    def summary(self) -> str:
        """What and how much it is, in a line."""


def seeded(seed: int, *place: int | str) -> torch.Generator:
    """Random numbers of a place in the data, independent of those of every other place."""
    digest = hashlib.sha256(repr((seed, *place)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def integer(generator: torch.Generator, end: int) -> int:
    """A random number from 0 to `end` - 1."""
    return int(torch.randint(end, (), generator=generator))
