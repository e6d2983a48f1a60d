"""Clips on their way from a data set to an objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class DataClip:
    """One clip of a data set.

    Attributes:
        pixels: `c t h w` in [-1, 1]; None if the latents are known already.
        image: pixels of the given frame, `c h w` in [-1, 1]; `image_index` is its number in the clip.
        fps: frames per second as sampled, None if unknown; `stride`: every so many frames of its file, None by time.
        latents: `c t h w`, and text, pooled_text: features of the caption, `n d` and `d`, for example from a cache.
    """

    pixels: Tensor | None
    image: Tensor
    caption: str
    image_index: int = 0
    fps: float | None = None
    latents: Tensor | None = None
    text: Tensor | None = None
    pooled_text: Tensor | None = None
    stride: int | None = None


@dataclass(frozen=True)
class LabeledCaption:
    """A caption and the class that it names of every aspect; aspects that it leaves open are missing."""

    caption: str
    classes: Mapping[str, str]


class CaptionSource(Protocol):
    """Captions of a data set by themselves, with what they name."""

    def classes(self) -> Mapping[str, Sequence[str]]:
        """The classes of every aspect, such as the motions; "motion" is always one."""

    def labeled_caption(self, generator: torch.Generator, /) -> LabeledCaption:
        """Draw a caption as the data set's clips have them."""


class ClipData(Protocol):
    """A data set without end: clip number `item` depends on its configuration and the number only."""

    def clip(self, item: int) -> DataClip:
        """The clip of this number, from 0 on; shuffling from pass to pass happens in here."""

    def fingerprint(self) -> str:
        """A hash that tells this data from other data, for a result's metadata."""

    def summary(self) -> str:
        """Kind and size of the data, in a line or a few for the plan."""


@runtime_checkable
class MotionData(ClipData, CaptionSource, Protocol):
    """A data set that knows its clips' motions, and draws clips that no training saw."""

    def held_out(self) -> ClipData:
        """The same kind of clips of pictures that no training saw."""

    def still(self) -> ClipData:
        """The pictures without the moves: one frame for each clip."""

    def contrast(self, item: int, /) -> str:
        """The caption of a clip with the words of another motion."""


class LatentEncoder(Protocol):
    """The side of an autoencoder that training needs."""

    def encode(self, pixels: Tensor, /) -> Tensor:
        """Pixels `b c h w` in [-1, 1] to latents `b c h w`."""

    def encode_clip(self, clip: Tensor, /) -> Tensor:
        """Pixels `b c t h w` to latents `b c t h w`."""


@dataclass(frozen=True)
class RawClips:
    """Clips of one batch as they come from the data set: pixels or latents `b c t h w`, and their numbers.

    `text` and `pooled_text` are features of the captions, `b n d` and `b d`, where the data set has them.
    """

    pixels: Tensor | None
    latents: Tensor | None
    image: Tensor
    image_index: Tensor
    captions: list[str]
    fps: Tensor | None
    items: list[int]
    text: Tensor | None = None
    pooled_text: Tensor | None = None
    stride: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "RawClips":
        """The same on a device."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        image, image_index = (tensor.to(device, non_blocking=non_blocking) for tensor in (self.image, self.image_index))
        pixels, latents, fps = moved(self.pixels), moved(self.latents), moved(self.fps)
        further = moved(self.text), moved(self.pooled_text), moved(self.stride)
        return RawClips(pixels, latents, image, image_index, self.captions, fps, self.items, *further)


@dataclass(frozen=True)
class ClipBatch:
    """Clips as an objective sees them, on the training device.

    Attributes:
        image: pixels of the given frames, `b c h w` in [-1, 1]; `image_index` are their numbers, `b`.
        latents: `b c t h w`.
        captions: one for each clip.
        fps: frames per second, `b`, and `stride`: of frames in their files, `b`; None if one of the clips has none.
        items: the clips' numbers in the data set, on which all random draws depend.
        text, pooled_text: features of the captions, `b n d` and `b d`, where the data set has them.
        given: latents of pictures of other clips in place of the given frames', `b c 1 h w`, to see what they cost.
    """

    image: Tensor
    image_index: Tensor
    latents: Tensor
    captions: list[str]
    fps: Tensor | None
    items: list[int]
    text: Tensor | None = None
    pooled_text: Tensor | None = None
    given: Tensor | None = None
    stride: Tensor | None = None

    @property
    def image_latent(self) -> Tensor:
        """Latents of the given frames as they are in the clips, `b c 1 h w`."""
        if self.given is not None:
            return self.given
        clips = torch.arange(len(self.latents), device=self.latents.device)
        return self.latents[clips, :, self.image_index][:, :, None]


@dataclass(frozen=True)
class Items(torch.utils.data.Dataset[tuple[int, DataClip]]):
    """A data set as the loader of PyTorch wants it: the numbers come from a sampler."""

    data: ClipData

    def __getitem__(self, item: int) -> tuple[int, DataClip]:
        return item, self.data.clip(item)


def collate(numbered: Sequence[tuple[int, DataClip]]) -> RawClips:
    """Put clips of one size into a batch; raises ValueError for a mixture of pixels and latents."""
    clips = [clip for _, clip in numbered]
    cached = [clip.latents is not None for clip in clips]
    if any(cached) and not all(cached):
        raise ValueError("some clips of a batch come as pixels and some as latents: fill the cache before training")
    return RawClips(
        pixels=None if all(cached) else torch.stack([clip.pixels for clip in clips if clip.pixels is not None]),
        latents=torch.stack([clip.latents for clip in clips if clip.latents is not None]) if all(cached) else None,
        image=torch.stack([clip.image for clip in clips]),
        image_index=torch.tensor([clip.image_index for clip in clips]),
        captions=[clip.caption for clip in clips],
        fps=_numbers([clip.fps for clip in clips]),
        items=[item for item, _ in numbered],
        text=_stacked([clip.text for clip in clips]),
        pooled_text=_stacked([clip.pooled_text for clip in clips]),
        stride=_numbers([clip.stride for clip in clips]),
    )


def _numbers(values: Sequence[float | None]) -> Tensor | None:
    """The values as a tensor, if every clip has one."""
    there = [float(value) for value in values if value is not None]
    return torch.tensor(there) if len(there) == len(values) else None


def _stacked(tensors: list[Tensor | None]) -> Tensor | None:
    """One tensor of all, if every clip has one."""
    there = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(there) if len(there) == len(tensors) else None


@torch.no_grad()
def encode_clips(raw: RawClips, autoencoder: LatentEncoder) -> ClipBatch:
    """Bring clips to latents with a frozen autoencoder, unless they are latents already."""
    if raw.latents is not None:
        latents = raw.latents
    else:
        assert raw.pixels is not None  # collate has the one or the other
        latents = autoencoder.encode_clip(raw.pixels)
    told = raw.captions, raw.fps, raw.items, raw.text, raw.pooled_text
    return ClipBatch(raw.image, raw.image_index, latents.float(), *told, stride=raw.stride)
