"""The seams of the video U-Net, where methods enter it; contributions of several methods are summed by `+`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, Protocol

from einops import rearrange
from torch import Tensor

from .attention import AttentionFunction, ImageStream, TransformerStandIn
from .blocks import to_frames


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


class BeforeBlock(Protocol):
    """Changes what enters a block, `b c t h w` each: its features, and those of the skip if it is an output block."""

    def __call__(self, address: BlockAddress, *features: Tensor) -> tuple[Tensor, ...]: ...


@dataclass(frozen=True)
class Seams:
    """Contributions of methods to one forward pass of the U-Net.

    Attributes:
        residuals: added to the skips and after the middle block (ControlNet, image retention).
        after_block: called with every block's output `b c t h w` and its address; returns what replaces it (look-back).
        hint: added to the first convolution's output in every frame, `b c h w`.
        image_streams: of an image projection, by the names of the cross-attentions that they belong to.
        before_block: called with the address of every block and what enters it; returns what enters instead (FreeU,
            arXiv:2309.11497, scales backbone and skip here).
        embedding: called with the time embedding `b e`; returns what replaces it, of each clip or each frame `(b t) e`.
        attention: takes the place of the attention function in spatial and temporal transformers.
        stand_in: computes the blocks of spatial transformers in their place, all rows `(b t) n d` together (token
            merging, arXiv:2303.17604, and perturbed attention, arXiv:2403.17377, act here). Where two methods give
            an attention function or a stand-in, the later one counts.
    """

    residuals: Residuals | None = None
    after_block: AfterBlock | None = None
    hint: Tensor | None = None
    image_streams: Mapping[str, ImageStream] | None = None
    before_block: BeforeBlock | None = None
    embedding: Callable[[Tensor], Tensor] | None = None
    attention: AttentionFunction | None = None
    stand_in: TransformerStandIn | None = None

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
            _entering_in_turn(self.before_block, other.before_block),
            _chained(self.embedding, other.embedding),
            other.attention or self.attention,
            other.stand_in or self.stand_in,
        )


def call_before(
    before_block: BeforeBlock | None, address: BlockAddress, frames: int, *features: Tensor
) -> tuple[Tensor, ...]:
    """What enters a block, `(b t) c h w` each, changed if somebody asked for it."""
    if before_block is None:
        return features
    clips = (rearrange(each, "(b t) c h w -> b c t h w", t=frames) for each in features)
    return tuple(map(to_frames, before_block(address, *clips)))


def call_after(after_block: AfterBlock | None, h: Tensor, address: BlockAddress, frames: int) -> Tensor:
    """The features `(b t) c h w` that leave a block, likewise."""
    if after_block is None:
        return h
    return to_frames(after_block(rearrange(h, "(b t) c h w -> b c t h w", t=frames), address))


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _in_turn(first: AfterBlock | None, second: AfterBlock | None) -> AfterBlock | None:
    if first is None or second is None:
        return first or second
    return lambda h, address: second(first(h, address), address)


def _entering_in_turn(first: BeforeBlock | None, second: BeforeBlock | None) -> BeforeBlock | None:
    if first is None or second is None:
        return first or second
    return lambda address, *features: second(address, *first(address, *features))


def _chained(
    first: Callable[[Tensor], Tensor] | None, second: Callable[[Tensor], Tensor] | None
) -> Callable[[Tensor], Tensor] | None:
    if first is None or second is None:
        return first or second
    return lambda x: second(first(x))
