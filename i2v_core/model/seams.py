"""The seams of the video U-Net, where methods enter it; contributions of several methods are summed by `+`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from torch import Tensor

from .attention import ImageStream


@dataclass(frozen=True)
class BlockAddress:
    """Address of a block: `input` 0.., `middle` 0, `output` 0.., as in the checkpoint's names."""

    part: Literal["input", "middle", "output"]
    index: int


@dataclass(frozen=True)
class Residuals:
    """Residuals of a side network, `b c t h w` each: for the skips in the order of the input blocks, and the middle."""

    skips: tuple[Tensor | None, ...] = ()
    middle: Tensor | None = None

    def __add__(self, other: "Residuals") -> "Residuals":
        skips = tuple(_sum(*pair) for pair in zip_longest(self.skips, other.skips))
        return Residuals(skips, _sum(self.middle, other.middle))


AfterBlock = Callable[[Tensor, BlockAddress], Tensor]


@dataclass(frozen=True)
class Seams:
    """Contributions of methods to one forward pass of the U-Net.

    Attributes:
        residuals: added to the skips and after the middle block (ControlNet, image retention).
        after_block: called with every block's output `b c t h w` and its address; returns what replaces it (look-back).
        hint: added to the first convolution's output in every frame, `b c h w`.
        image_streams: of an image projection, by the names of the cross-attentions that they belong to.
    """

    residuals: Residuals | None = None
    after_block: AfterBlock | None = None
    hint: Tensor | None = None
    image_streams: Mapping[str, ImageStream] | None = None

    def __add__(self, other: "Seams") -> "Seams":
        """Sums of residuals and hints, updates of a block one after the other, and the streams of both."""
        streams = {**(self.image_streams or {}), **(other.image_streams or {})}
        return Seams(
            self.residuals + other.residuals
            if self.residuals and other.residuals
            else self.residuals or other.residuals,
            _in_turn(self.after_block, other.after_block),
            _sum(self.hint, other.hint),
            streams or None,
        )


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _in_turn(first: AfterBlock | None, second: AfterBlock | None) -> AfterBlock | None:
    if first is None or second is None:
        return first or second
    return lambda h, address: second(first(h, address), address)
