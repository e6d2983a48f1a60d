"""Two-stage inference of DreamVideo (arXiv:2312.03018, section 5.5) for any number of parts.

Each part animates the last frame of the one before, with a prompt of its own; or, after a cut, a picture of its own, as
in DynamiCrafter's storytelling (arXiv:2310.12190, section 1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .decoding import SEEDS, check_ranges, decode, shown
from .denoiser import Denoiser
from .diffusion.samplers import Callback
from .files import StrPath
from .generate import Animator, GenerateConfig
from .text_files import read_json
from .video import read_picture, to_rgb
from .video.match_colors import lead_colors_back, match_colors
from .weights import Checkpoint

Handover = Literal["pixels", "latents"]
OnStep = Callable[[int, int, int], None]
MOST_FRAMES = 100_000  # more is a slip of the hand
_SETTINGS = ("seed", "frames", "guidance", "text_scale", "image_scale")  # of `Part` that are `GenerateConfig`'s too


@dataclass(frozen=True)
class Part:
    """One part of a story; None takes what the story's configuration says.

    Attributes:
        prompt: what happens; `negative`: what guidance leads away from.
        seed: None is the story's seed plus the number of the part, counted from 0.
        frames: of this part, at least 2, with the one that it shares with the part before.
        guidance, text_scale, image_scale: as in `GenerateConfig`.
        image: picture file that this part begins with, after a cut; None goes on from the last frame before, or from
            the story's picture. In a story file a path beside it.
    """

    prompt: str
    negative: str = ""
    seed: int | None = None
    frames: int | None = None
    guidance: float | None = None
    text_scale: float | None = None
    image_scale: float | None = None
    image: str | None = None

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 2:
            raise ValueError(f"a part needs at least 2 frames, one of them the given picture, got {self.frames}")
        check_ranges(self, seed=SEEDS, frames=(2, MOST_FRAMES))

    def config(self, story: GenerateConfig, number: int) -> GenerateConfig:
        """The story's configuration with what this part, counted from 0, says in its place."""
        said: dict[str, Any] = {name: value for name in _SETTINGS if (value := getattr(self, name)) is not None}
        return replace(story, **({"seed": (story.seed + number) % 2**64} | said))


@dataclass(frozen=True)
class Story:
    """A story's frames, and where its parts meet.

    Attributes:
        clip: pixels in [-1, 1], `3 t h w`; a frame that two parts share is there once.
        joins: index of each shared frame, in order.
        cuts: index of each frame after the first that is the picture of a part's own, in order.
    """

    clip: Tensor
    joins: tuple[int, ...]
    cuts: tuple[int, ...] = ()

    def parts(self) -> list[Tensor]:
        """The clips `3 t h w` of the parts, each from its shared frame or its picture to the end."""
        starts = [0, *sorted((*self.joins, *self.cuts)), self.clip.shape[1]]
        # A shared frame belongs to both of its parts.
        return [self.clip[:, start : end + (end in self.joins)] for start, end in pairwise(starts)]

    def scenes(self) -> list[tuple[Tensor, list[int]]]:
        """Clips between cuts, `3 t h w`, each with the indices within it at which its parts end."""
        edges = [0, *self.cuts, self.clip.shape[1]]
        return [
            (self.clip[:, start:end], [*(join - start for join in self.joins if start <= join < end), end - start - 1])
            for start, end in pairwise(edges)
        ]


def read_story(path: StrPath) -> list[Part]:
    """Read a story from JSON: a list whose entries are prompts, or objects with the fields of `Part`.

    Raises ValueError that names the entry which is wrong (`TextFileError` for the file), OSError if there is none.
    """
    name, entries = Path(path).name, read_json(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"'{name}' should hold a list of one or more parts, each a prompt or an object with a prompt")
    folder = Path(path).parent
    return [_part(entry, f"part {number} of '{name}'", folder) for number, entry in enumerate(entries, start=1)]


def tell_story(
    checkpoint: Checkpoint,
    image: Tensor,
    parts: Sequence[Part],
    *,
    config: GenerateConfig | None = None,
    handover: Handover = "pixels",
    color_match: float = 0.0,
    denoiser: Denoiser | None = None,
    on_step: OnStep | None = None,
) -> Story:
    """Animate a picture part by part.

    Args:
        image: `h w c` in [0, 1] or uint8; cropped to the clip's shape. Left out if the first part has its own.
        config: what holds for all parts.
        handover: what the next part begins with: the last frame's pixels, encoded again, or its latent as it is.
        color_match: how far each part's colors are led back by its end to the picture's, that of the last cut, 0 to 1.
        denoiser: the checkpoint's network with its adapters; None takes the network alone.
        on_step: called with the number of the part (from 0), the step (from 0) and the number of steps.

    Raises:
        ValueError: no parts, `color_match` out of range or with latents, or as `generate.animate`.
        OSError: a part's picture cannot be opened; nothing is animated before all are read.
    """
    if not parts:
        raise ValueError("a story needs at least one part, got none")
    if not 0 <= color_match <= 1:
        raise ValueError(f"color_match goes from 0, not at all, to 1, wholly; got {color_match}")
    if handover == "latents" and color_match:
        raise ValueError("colors are matched in pixels: hand over pixels, or set color_match to 0")
    animator, config = Animator.of(checkpoint, denoiser), config or GenerateConfig()
    clips: list[Tensor] = []
    with torch.inference_mode():
        own = [None if part.image is None else animator.fit(to_rgb(read_picture(part.image)), config) for part in parts]
        reference = picture = animator.fit(image, config) if own[0] is None else own[0]
        image_latent = None
        for number, part in enumerate(parts):
            if (begins := own[number]) is not None:
                reference, picture, image_latent = begins, begins, None
            latents = animator.animate(
                picture, part.prompt, negative_prompt=part.negative, config=part.config(config, number),
                image_latent=image_latent, callback=_numbered(on_step, number),
            )  # fmt: skip
            clip = animator.autoencoder.decode_clip(latents)[0].clamp(-1, 1)
            clips.append(lead_colors_back(clip, reference[0], color_match) if color_match else clip)
            picture = clips[-1][None, :, -1]
            image_latent = latents[:, :, -1] if handover == "latents" else None
    return _told(clips, [picture is not None for picture in own])


def _told(clips: Sequence[Tensor], cut: Sequence[bool]) -> Story:
    """The story of its parts' clips; one that is not cut repeats the last frame of the one before."""
    scenes, joins, cuts, end = list[list[Tensor]](), list[int](), list[int](), 0
    for clip, begins in zip(clips, cut, strict=True):
        if not scenes or begins:
            cuts += [end] if scenes else []
            scenes.append([clip])
            end += clip.shape[1]
        else:
            joins.append(end - 1)
            scenes[-1].append(clip)
            end += clip.shape[1] - 1
    return Story(torch.cat([join_clips(scene) for scene in scenes], dim=1), tuple(joins), tuple(cuts))


def join_clips(clips: Sequence[Tensor], shared: int = 1, match: bool = False) -> Tensor:
    """Put clips one behind the other; frames that a clip shares with the one before appear once, as they were there.

    Args:
        clips: `c t h w` of one size, any linear range.
        shared: how many frames each clip repeats of the one before.
        match: give every later clip the gain and offset per channel that make its last shared frame's colors those of
            the clip before. Both show the same, so the difference is the model's and not the picture's.

    Raises:
        ValueError: sizes differ, a clip has no frames of its own, or nothing is shared to match by.
    """
    _check_clips(clips, shared, match)
    joined = [clips[0]]
    for clip in clips[1:]:
        new = clip[:, shared:]
        joined.append(match_colors(new, clip[:, shared - 1 : shared], joined[-1][:, -1]) if match else new)
    return torch.cat(joined, dim=1)


def _numbered(on_step: OnStep | None, part: int) -> Callback | None:
    return None if on_step is None else lambda step, steps, _: on_step(part, step, steps)


def _check_clips(clips: Sequence[Tensor], shared: int, match: bool) -> None:
    if not clips:
        raise ValueError("expected one or more clips to join, got none")
    if shared < 0 or (match and not shared):
        raise ValueError(
            f"matching colors at a join needs shared frames, at least 1, got {shared}: turn it off or set 1"
        )
    first = _size(clips[0])
    for number, clip in enumerate(clips[1:], start=2):
        if (size := _size(clip)) != first:
            raise ValueError(f"clip {number} is {size}, the first is {first}: bring all clips to one size")
        if clip.shape[1] <= shared:
            raise ValueError(f"clip {number} has {clip.shape[1]} frames, and {shared} of them are shared: none is left")


def _size(clip: Tensor) -> str:
    channels, _, height, width = clip.shape
    return f"{width}x{height} with {channels} channels"


def _part(entry: Any, place: str, folder: Path) -> Part:
    if not isinstance(entry, str | dict):
        raise ValueError(f"{place} should be a prompt or an object with 'prompt', got {shown(repr(entry))}")
    try:
        part = Part(entry) if isinstance(entry, str) else decode(Part, entry)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if part.image is None:
        return part
    if not (picture := folder / part.image).is_file():
        raise ValueError(f"{place}: there is no picture '{shown(part.image)}'; its path is one beside the story file")
    return replace(part, image=str(picture))
