"""Items of an evaluation: result folders, and each clip's ground truth, given image and caption, found by name."""

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from torch import Tensor

from ..decoding import RATES, check_ranges
from ..files import StrPath
from ..text_files import LARGE, read_json, read_text
from ..unusable import UNUSABLE
from ..video import (
    Clip,
    FitMode,
    FrameIndex,
    fit_image,
    frames_to_clip,
    index_frames,
    read_picture,
    read_video,
    to_model_range,
)
from .measures import asked_motion

VIDEOS = (".mp4", ".webm", ".mkv", ".mov")
CATEGORIES = "categories.json"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class ClipProtocol:
    """Rules by which clips are cut from files, alike for results and ground truth; kept with every number.

    Attributes:
        frames: of each clip; None takes all. fps: samples per second; None takes the file's own rate.
        height, width: what frames are fitted to; None keeps the file's.
        start: where the stretch begins: "first", "center" or "random" (by `seed` and name).
    """

    frames: int | None = None
    fps: float | None = None
    stride: int = 1
    height: int | None = None
    width: int | None = None
    fit: FitMode = "crop"
    start: Literal["first", "center", "random"] = "first"
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.height is None) != (self.width is None):
            raise ValueError(f"Give both height and width or neither, got {self.height} and {self.width}.")
        if self.start not in ("first", "center", "random"):
            raise ValueError(f"Expected start 'first', 'center' or 'random', got {self.start!r}.")
        positive = (1, math.inf)
        check_ranges(self, frames=positive, stride=positive, height=positive, width=positive, fps=RATES)

    @property
    def size(self) -> tuple[int, int] | None:
        return None if self.height is None or self.width is None else (self.height, self.width)

    def read(self, path: Path) -> Clip:
        """Read a clip; raises as `read_video` does, for example if the file has fewer frames."""
        index = index_frames(path)
        available, rate = self._available(index)
        spare = 0 if self.frames is None else max(available - self.frames, 0)
        if self.start == "random":
            digest = hashlib.sha256(f"{self.seed}/{path.stem}".encode()).digest()
            first = int.from_bytes(digest[:8], "big") % (spare + 1)
        else:
            first = spare // 2 if self.start == "center" else 0
        return read_video(
            path, start=float(first / rate), frames=self.frames, fps=self.fps, stride=self.stride, size=self.size,
            mode=self.fit, index=index,
        )  # fmt: skip

    def available(self, path: Path) -> int:
        """Number of frames of a file at this rate; raises as `index_frames`."""
        return self._available(index_frames(path))[0]

    def _available(self, index: FrameIndex) -> tuple[int, Fraction | float]:
        if self.fps is None:
            return -(-len(index.pts) // self.stride), index.fps / self.stride
        return max(1, round(float(index.duration) * self.fps)), self.fps


@dataclass(frozen=True)
class Item:
    """The results of one name in every folder, and what belongs to them."""

    name: str
    videos: Mapping[str, Path]
    reference: Path | None = None
    image: Path | None = None
    caption: str | None = None
    wrong_caption: str | None = None
    category: str | None = None
    caption_refusal: str | None = None  # why its text cannot be read

    def files(self) -> list[Path]:
        """Every file that its numbers depend on."""
        return [*self.videos.values(), *(path for path in (self.reference, self.image) if path is not None)]

    def fingerprint(self, settings: Mapping[str, object]) -> str:
        """Changes when a file, a caption or a setting does."""
        states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files()]
        told = json.dumps([states, self.caption, self.wrong_caption, settings], sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()


def find_items(
    folders: Mapping[str, Path],
    *,
    references: Path | None = None,
    images: Path | None = None,
    captions: Path | None = None,
    categories: Path | None = None,
) -> list[Item]:
    """Pair files by their names without ending.

    Given images and captions (`NAME.png`, `NAME.txt`) are looked for in their own folder, beside the ground truth and
    beside the results; `captions` may also be a JSON file of texts by name, as `categories` is, which is looked for as
    `categories.json` beside the ground truth.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: no videos, or folders whose names differ, with the first ones that do.
    """
    by_folder = {label: _by_name(folder, VIDEOS) for label, folder in folders.items()}
    names = set.union(*(set(found) for found in by_folder.values()))
    if not names:
        raise ValueError(
            f"There are no videos in '{next(iter(folders.values()))}': expected {', '.join(VIDEOS)} files."
        )
    for label, found in by_folder.items():
        if missing := sorted(names - set(found)):
            raise ValueError(
                f"Paired differences need the same clips in every folder; '{folders[label]}' lacks {len(missing)}, "
                f"such as '{missing[0]}'."
            )
    places = [place for place in (references, *folders.values()) if place is not None]
    texts, refusals = _captions(captions, places, names)
    true = {} if references is None else _by_name(references, VIDEOS)
    pictures: dict[str, Path] = {}
    for place in reversed([*([] if images is None else [images]), *places]):
        pictures |= _by_name(place, PICTURES)
    beside = None if references is None else references / CATEGORIES
    found_categories = categories or (beside if beside is not None and beside.is_file() else None)
    kinds = {} if found_categories is None else _texts_by_name(found_categories, "categories")
    ordered = sorted(names)
    return [
        Item(
            name, {label: found[name] for label, found in by_folder.items()}, true.get(name), pictures.get(name),
            texts.get(name), _other_caption(ordered, i, texts), kinds.get(name), refusals.get(name),
        )
        for i, name in enumerate(ordered)
    ]  # fmt: skip


def fitted_picture(path: Path, height: int, width: int, mode: FitMode) -> Tensor:
    """A picture at a clip's size, as `3 h w` in [-1, 1]."""
    return to_model_range(fit_image(read_picture(path), height, width, mode)).permute(2, 0, 1)


def read_clip(path: Path, protocol: ClipProtocol) -> tuple[Tensor, float]:
    """A clip's pixels `3 t h w` in [-1, 1], and its frames per second."""
    clip = protocol.read(path)
    return frames_to_clip(clip.frames), float(clip.fps)


def _by_name(folder: StrPath, endings: tuple[str, ...]) -> dict[str, Path]:
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"There is no folder '{folder}'.")
    # macOS keeps `._NAME` beside files on foreign disks.
    found = (path for path in sorted(place.iterdir()) if not path.name.startswith("."))
    return {path.stem: path for path in found if path.suffix.lower() in endings}


def _captions(
    given: Path | None, places: Sequence[Path], names: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Captions by name, and why others of these names cannot be read."""
    if given is not None and given.is_file():
        return _texts_by_name(given, "captions"), {}
    found: dict[str, Path] = {}
    for place in reversed([*([] if given is None else [given]), *places]):
        found |= _by_name(place, (".txt",))
    texts: dict[str, str] = {}
    refusals: dict[str, str] = {}
    for name in found.keys() & names:
        try:
            texts[name] = read_text(found[name]).strip()
        except UNUSABLE as error:
            refusals[name] = f"The caption cannot be used: {error}"
    return texts, refusals


def _texts_by_name(path: Path, what: str) -> dict[str, str]:
    texts = read_json(path, limit=LARGE)
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f'\'{path}\' must be a JSON object of {what} by name, such as {{"clip": "pan left"}}.')
    return texts


def _other_caption(names: Sequence[str], index: int, texts: Mapping[str, str]) -> str | None:
    """The caption of the next item that asks for something else: another camera move, if it names one at all."""

    def asks(text: str) -> str:
        return asked_motion(text) or text

    own = texts.get(names[index])
    following = (texts.get(names[(index + step) % len(names)]) for step in range(1, len(names)))
    return next((text for text in following if own and text and asks(text) != asks(own)), None)
