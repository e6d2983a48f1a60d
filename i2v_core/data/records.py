"""Records of what one pass over a file found, kept on the disk so that the next run need not look again."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..files import atomic_path
from ..text_files import LARGE, read_json
from ..unusable import UNUSABLE, reason
from ..video import FrameIndex
from ..video.look import Look
from ..video.scan import frame_changes
from .media import Media

VERSION = 2
# Of the mean distance between frames, beyond which a distance counts as another; containers round to ticks.
UNEVEN = 0.2


@dataclass(frozen=True)
class FileRecord:
    """One file: what is wrong with it (nothing, mostly), or what a data set needs to know about it.

    Attributes:
        content: SHA-256 of the file.
        index: time of every frame, and how they are shown; kept beside a problem if only some cannot be decoded.
        changes: of every frame from the one before (`frame_changes`); None if that was not asked for.
    """

    problem: str = ""
    content: str = ""
    index: FrameIndex | None = None
    changes: tuple[float, ...] | None = None

    @property
    def variable(self) -> bool:
        """The frames are unevenly spaced in time."""
        return self.index is not None and is_variable(self.index)


def is_variable(index: FrameIndex) -> bool:
    """Some frames are further apart, or nearer, than rounding to ticks explains."""
    steps = [after - before for before, after in pairwise(index.pts)]
    if not steps:
        return False
    mean = (index.pts[-1] - index.pts[0]) / len(steps)
    return max(abs(step - mean) for step in steps) > max(1.5, UNEVEN * mean)


def examine(media: Media, look: bool) -> FileRecord:
    """Find out about a file; what is wrong becomes the record's problem.

    Args:
        look: decode everything, which finds damaged frames and scene cuts; otherwise the first frames only.
    """
    record = FileRecord()
    try:
        index = media.index()
        record = FileRecord(content=media.content_hash(), index=index)
        if look:
            record = replace(record, changes=frame_changes(media.thumbnails(index)))
    except UNUSABLE as error:
        return replace(record, problem=reason(error))
    return record


@contextmanager
def kept_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file that becomes `path` in a cache; an OSError names the option that moves it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            yield temporary
    except OSError as error:
        raise type(error)(
            f"Cannot keep in '{path.parents[2]}' what was found out about the data ({reason(error)}). Set "
            "data.cache_directory (audit: --cache-directory) to a folder that can be written; "
            "the data's own may stay read-only."
        ) from error


@dataclass(frozen=True)
class RecordStore:
    """Records of files in a folder, found by where a file lies, its size and the time of its last change."""

    folder: Path

    def get(self, media: Media, look: bool) -> FileRecord:
        """The record of a file, kept or new; a kept one that lacks the look is made again."""
        try:
            path = self._path(media.stamp())
        except OSError as error:
            return FileRecord(problem=f"cannot be opened ({reason(error)})")
        kept = _read(path)
        if kept is not None and (kept.changes is not None or kept.problem or not look):
            return kept
        record = examine(media, look)
        with kept_file(path) as temporary:
            temporary.write_text(json.dumps(_encoded(record)), encoding="utf-8")
        return record

    def recall(self, media: Media, look: bool) -> FileRecord:
        """The record as `get` gives it; the latest ones stay in memory, whatever happens to the files."""
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
        return _decoded(read_json(path, limit=LARGE))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return None


def _decoded(values: dict[str, Any]) -> FileRecord:
    index, changes = values.pop("index"), values.pop("changes")
    if index is not None:
        base, fps, duration = (Fraction(index[name]) for name in ("time_base", "fps", "duration"))
        look = Look(**index["look"] | {"aspect": Fraction(index["look"]["aspect"])})
        numbers = None if index["numbers"] is None else range(*index["numbers"])
        pts, keyframes = tuple(index["pts"]), tuple(index["keyframes"])
        index = FrameIndex(pts, keyframes, base, fps, duration, look, numbers, index["lost"])
    return FileRecord(**values, index=index, changes=None if changes is None else tuple(changes))


def _encoded(record: FileRecord) -> dict[str, Any]:
    values = asdict(record)
    if values["index"] is not None:
        index = values["index"]
        index |= {name: str(index[name]) for name in ("time_base", "fps", "duration")}
        index["look"]["aspect"] = str(index["look"]["aspect"])
        numbers = index["numbers"]
        index["numbers"] = None if numbers is None else (numbers.start, numbers.stop)
    return values
