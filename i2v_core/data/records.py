"""What one pass over a file found out, kept on the disk so that the next run need not look again."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import atomic_path
from ..video import FrameIndex
from ..video.scan import Thumbnail, frame_changes
from .media import Media

VERSION = 1
# Of the mean distance between frames, beyond which a distance counts as another; containers round to ticks.
UNEVEN = 0.2


@dataclass(frozen=True)
class FileRecord:
    """One file: what is wrong with it (nothing, mostly), or what a data set needs to know about it.

    Attributes:
        content: SHA-256 of the file.
        index: time of every frame.
        height, width: in pixels, upright.
        rotation: in degrees, as the file asks players to turn it.
        changes: of every frame from the one before (`frame_changes`); None if that was not asked for.
    """

    problem: str = ""
    content: str = ""
    index: FrameIndex | None = None
    height: int = 0
    width: int = 0
    rotation: int = 0
    changes: tuple[float, ...] | None = None

    @property
    def variable(self) -> bool:
        """Whether the frames are unevenly spaced in time."""
        return self.index is not None and is_variable(self.index)


def is_variable(index: FrameIndex) -> bool:
    """Whether any two frames are further apart, or nearer, than rounding to ticks explains."""
    steps = [after - before for before, after in pairwise(index.pts)]
    if not steps:
        return False
    mean = (index.pts[-1] - index.pts[0]) / len(steps)
    return max(abs(step - mean) for step in steps) > max(1.5, UNEVEN * mean)


def examine(media: Media, look: bool) -> FileRecord:
    """Find out about a file; what is wrong becomes the record's problem.

    Args:
        look: decode everything, which finds damaged frames and scene cuts; otherwise the first frame only.
    """
    try:
        index = media.index()
        pass_over = _Pass(None if look else 1)
        changes = frame_changes(pass_over.pictures(media.thumbnails()))
        if pass_over.first is None:
            raise ValueError("no frame can be decoded")
        record = FileRecord("", media.content_hash(), index, *pass_over.first.size, pass_over.first.rotation)
        return replace(record, changes=changes, problem=pass_over.damage(index)) if look else record
    except (ValueError, OSError) as error:
        return FileRecord(problem=" ".join(str(error).split()))


class _Pass:
    """Hands the thumbnails' pixels on and keeps what else they tell."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.first: Thumbnail | None = None
        self.damaged: int | None = None
        self.seen: list[int | None] = []

    def pictures(self, thumbnails: Iterator[Thumbnail]) -> Iterator[NDArray[np.uint8]]:
        for number, thumbnail in enumerate(islice(thumbnails, self.limit)):
            self.first = self.first or thumbnail
            if thumbnail.damaged and self.damaged is None:
                self.damaged = number
            self.seen.append(thumbnail.pts)
            yield thumbnail.pixels

    def damage(self, index: FrameIndex) -> str:
        """What is wrong with the file, or nothing."""
        if self.damaged is not None:
            return f"frame {self.damaged} is damaged"
        if missing := set(index.pts) - set(self.seen):
            return f"frame {index.pts.index(min(missing))} and {len(missing) - 1} more cannot be decoded"
        return ""


@dataclass(frozen=True)
class RecordStore:
    """Records of files in a folder, found by where a file lies, its size and the time of its last change."""

    folder: Path

    def get(self, media: Media, look: bool) -> FileRecord:
        """The record of a file, kept or new; a kept one that lacks the look is made again."""
        try:
            path = self._path(media.stamp())
        except OSError as error:
            return FileRecord(problem=f"cannot be opened ({error.strerror})")
        kept = _read(path)
        if kept is not None and (kept.changes is not None or kept.problem or not look):
            return kept
        record = examine(media, look)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(_encoded(record)), encoding="utf-8")
        return record

    def recall(self, media: Media, look: bool) -> FileRecord:
        """What `get` gives; the latest ones stay in memory, whatever happens to the files."""
        return _recall(self, media, look)

    def _path(self, stamp: str) -> Path:
        name = hashlib.sha256(f"{VERSION} {stamp}".encode()).hexdigest()
        return self.folder / "files" / name[:2] / f"{name[2:]}.json"


@lru_cache(maxsize=512)
def _recall(store: RecordStore, media: Media, look: bool) -> FileRecord:
    return store.get(media, look)


def _read(path: Path) -> FileRecord | None:
    """A kept record; None if there is none, or a damaged one."""
    try:
        return _decoded(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _decoded(values: dict[str, Any]) -> FileRecord:
    index, changes = values.pop("index"), values.pop("changes")
    if index is not None:
        fractions = (Fraction(index[name]) for name in ("time_base", "fps", "duration"))
        index = FrameIndex(tuple(index["pts"]), tuple(index["keyframes"]), *fractions)
    return FileRecord(**values, index=index, changes=None if changes is None else tuple(changes))


def _encoded(record: FileRecord) -> dict[str, Any]:
    values = asdict(record)
    if values["index"] is not None:
        fractions = {name: str(values["index"][name]) for name in ("time_base", "fps", "duration")}
        values["index"] |= fractions
    return values
