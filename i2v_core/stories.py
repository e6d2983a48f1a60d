"""Two-stage inference of DreamVideo (arXiv:2312.03018, section 5.5) for any number of parts.

Each part animates the last frame of the one before, with a prompt of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
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
    """

    prompt: str
    negative: str = ""
    seed: int | None = None
    frames: int | None = None
    guidance: float | None = None
    text_scale: float | None = None
    image_scale: float | None = None

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
    """

    clip: Tensor
    joins: tuple[int, ...]

    def parts(self) -> list[Tensor]:
        """The clips `3 t h w` of the parts, each from its shared frame to the next."""
        edges = [0, *self.joins, self.clip.shape[1] - 1]
        return [self.clip[:, start : end + 1] for start, end in pairwise(edges)]


def read_story(path: StrPath) -> list[Part]:
    """Read a story from JSON: a list whose entries are prompts, or objects with the fields of `Part`.

    Raises ValueError that names the entry which is wrong (`TextFileError` for the file), OSError if there is none.
    """
    name, entries = Path(path).name, read_json(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"'{name}' should hold a list of one or more parts, each a prompt or an object with a prompt")
    return [_part(entry, f"part {number} of '{name}'") for number, entry in enumerate(entries, start=1)]


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
        image: `h w c` in [0, 1] or uint8; cropped to the clip's shape.
        config: what holds for all parts.
        handover: what the next part begins with: the last frame's pixels, encoded again, or its latent as it is.
        color_match: how far each part's colors are led back to the picture's by its end, 0 to 1.
        denoiser: the checkpoint's network with its adapters; None takes the network alone.
        on_step: called with the number of the part (from 0), the step (from 0) and the number of steps.

    Raises:
        ValueError: no parts, `color_match` out of range or with latents, or as `generate.animate`.
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
        reference = picture = animator.fit(image, config)
        image_latent = None
        for number, part in enumerate(parts):
            latents = animator.animate(
                picture, part.prompt, negative_prompt=part.negative, config=part.config(config, number),
                image_latent=image_latent, callback=_numbered(on_step, number),
            )  # fmt: skip
            clip = animator.autoencoder.decode_clip(latents)[0].clamp(-1, 1)
            clips.append(lead_colors_back(clip, reference[0], color_match) if color_match else clip)
            picture = clips[-1][None, :, -1]
            image_latent = latents[:, :, -1] if handover == "latents" else None
    return Story(join_clips(clips), tuple(accumulate(clip.shape[1] - 1 for clip in clips[:-1])))


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


def _part(entry: Any, place: str) -> Part:
    if not isinstance(entry, str | dict):
        raise ValueError(f"{place} should be a prompt or an object with 'prompt', got {shown(repr(entry))}")
    try:
        return Part(entry) if isinstance(entry, str) else decode(Part, entry)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
