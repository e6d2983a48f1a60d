"""The clips that a protocol asks for: where picture, caption and ground truth of each come from."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..data.layouts import Entry, list_entries
from ..data.media import VideoMedia
from ..data.moving_crops import MOTIONS, MovingCrops, MovingCropsConfig
from ..text_files import read_text
from ..unusable import UNUSABLE
from ..video import clip_to_frames, fit_image, read_picture, to_bytes
from .items import PICTURES, VIDEOS, ClipProtocol, read_clip
from .protocol import GenerationProtocol

WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|[_\s-]+")


@dataclass(frozen=True)
class EvaluationTask:
    """One clip to make: the given image `h w 3` in bytes, the caption, the seed, and its true future `c t h w`."""

    name: str
    image: Tensor
    caption: str
    seed: int
    truth: Tensor | None


@dataclass(frozen=True)
class Source:
    """Source of a clip: a picture, a video or both; neither is a moving crop, drawn by its number."""

    name: str
    number: int
    picture: Path | None = None
    video: Path | None = None
    caption: str | None = None
    category: str | None = None
    problem: str = ""


@dataclass(frozen=True)
class Sources:
    """The clips of a protocol, and those that were left out with the reason."""

    chosen: list[Source]
    left_out: dict[str, str]


def find_sources(protocol: GenerationProtocol, cut: ClipProtocol) -> Sources:
    """List the clips; videos too short for the protocol are left out and others take their place.

    Raises FileNotFoundError for a missing folder, ValueError if nothing in it can be used.
    """
    if protocol.folder is None:
        names = (f"{i:05d}-{MOTIONS[i % len(MOTIONS)]}" for i in range(protocol.clips))
        return Sources([Source(name, i) for i, name in enumerate(names)], {})
    folder = Path(protocol.folder)
    if not folder.exists():
        raise FileNotFoundError(f"There is no folder '{folder}': set the protocol's folder to where the data lies.")
    files = folder.iterdir() if folder.is_dir() else ()
    pictures = sorted(p for p in files if p.suffix.lower() in PICTURES and not p.name.startswith("."))
    found = [_beside(picture) for picture in pictures] if pictures else list(_listed(folder))
    if protocol.choose == "random":
        random.Random(protocol.seed).shuffle(found)
    chosen: list[Source] = []
    left_out: dict[str, str] = {}
    for source in found:
        if len(chosen) == protocol.clips:
            break
        if problem := _problem(source, protocol, cut):
            left_out[source.name] = problem
        else:
            chosen.append(source)
    if not chosen:
        name, problem = next(iter(left_out.items()))
        raise ValueError(f"No clip of '{folder}' can be used; the first, '{name}': {problem}")
    chosen = sorted(chosen, key=lambda source: source.name)
    return Sources([Source(**vars(source) | {"number": i}) for i, source in enumerate(chosen)], left_out)


def load_task(source: Source, protocol: GenerationProtocol, cut: ClipProtocol) -> EvaluationTask:
    """Read what a clip needs, at the size of the protocol."""
    seed = protocol.seed + source.number
    if source.picture is None and source.video is None:
        return _moving_crop(source, protocol, cut, seed)
    truth = None if source.video is None else read_clip(source.video, cut)[0]
    if source.picture is not None:
        assert cut.height is not None and cut.width is not None
        image = fit_image(read_picture(source.picture), cut.height, cut.width)
    else:
        assert truth is not None
        image = to_bytes(clip_to_frames(truth[:, :1]))[0]
    return EvaluationTask(source.name, image, _prompt(source, protocol), seed, truth)


def _moving_crop(source: Source, protocol: GenerationProtocol, cut: ClipProtocol, seed: int) -> EvaluationTask:
    if cut.height != cut.width:
        raise ValueError(f"Moving crops are square, got {cut.height}x{cut.width}: name a folder of pictures.")
    assert cut.frames is not None and cut.height is not None
    data = MovingCrops(
        MovingCropsConfig(
            frames=cut.frames, size=cut.height, seed=protocol.seed + 1, photographs=protocol.photographs
        )
    )  # fmt: skip
    clip = data.clip(source.number, MOTIONS[source.number % len(MOTIONS)])
    image = to_bytes(clip_to_frames(clip.pixels[:, :1]))[0]
    prompt = clip.caption if protocol.text == "caption" else ""
    return EvaluationTask(source.name, image, prompt, seed, clip.pixels)


def _beside(picture: Path) -> Source:
    text, videos = picture.with_suffix(".txt"), (picture.with_suffix(ending) for ending in VIDEOS)
    video = next(filter(Path.is_file, videos), None)
    try:
        caption = read_text(text).strip() if text.is_file() else None
    except UNUSABLE as error:
        return Source(picture.stem, 0, picture, video, problem=f"has no readable caption: {error}")
    return Source(picture.stem, 0, picture, video, caption)


def _listed(folder: Path) -> Iterator[Source]:
    """Clips in any layout of training data; of plain files the folder is the category."""
    listing = list_entries(folder)
    names: set[str] = set()
    for entry in listing.entries:
        source = _of_entry(entry, listing.layout == "files")
        if source.name in names:
            raise ValueError(f"'{folder}' has two clips that would be called '{source.name}': rename one.")
        names.add(source.name)
        yield source


def _of_entry(entry: Entry, folders_are_categories: bool) -> Source:
    path = Path(entry.name)
    category = path.parent.as_posix() if folders_are_categories and path.parent.as_posix() != "." else None
    video = entry.media.source if isinstance(entry.media, VideoMedia) else None
    name = path.with_suffix("").as_posix().strip("/").replace("/", "-")
    return Source(
        name, 0, None, Path(video) if isinstance(video, str) else None, entry.caption, category, entry.problem
    )


def _problem(source: Source, protocol: GenerationProtocol, cut: ClipProtocol) -> str:
    """Why a clip cannot be used; nothing if it can."""
    if source.problem and (protocol.text == "caption" or source.video is None):
        return source.problem
    if source.picture is None and source.video is None:
        return "is no video file of its own: unpack archives, and make videos of folders of pictures"
    if protocol.text == "caption" and source.caption is None:
        return 'has no caption: expected a text file of its name, or set text = "category" or "none"'
    if protocol.text == "category" and source.category is None:
        return "lies in no folder whose name could be its category"
    if source.video is None:
        return ""
    try:
        available, wanted = cut.available(source.video), cut.frames or 1
    except UNUSABLE as error:
        return f"cannot be read: {error}"
    return "" if available >= wanted else f"has {available} frames of the {wanted} that are asked for"


def _prompt(source: Source, protocol: GenerationProtocol) -> str:
    if protocol.text == "none":
        return ""
    if protocol.text == "category":
        return " ".join(WORDS.split(Path(source.category or "").name)).lower()
    return source.caption or ""
