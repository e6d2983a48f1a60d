"""Looks at every file of a data set before a run: what is used, what is not, and why."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from ..video.scan import find_cuts
from .config import DataConfig
from .layouts import Entry, Listing, list_entries
from .media import FrameFolder
from .records import FileRecord, RecordStore
from .sampling import Timeline, admissible_strides, make_timeline

OnFile = Callable[[int, int, str], None]  # done, of how many, name
# A file this much slower than the rate asked for would show some frames twice.
SLOWER = 0.9
SHOWN = 20  # names of a kind in the text


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One file: why it is not used (nothing if it is), and what it is like as far as it can be read."""

    name: str
    problem: str
    captioned: bool
    frames: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    height: int = 0
    width: int = 0
    rotation: int = 0
    variable: bool = False
    cuts: int = 0
    content: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """Files of a data set: `rows` in its order, and `aside` what does not belong to it."""

    path: str
    layout: str
    rows: tuple[AuditRow, ...]
    aside: tuple[str, ...] = ()

    @property
    def used(self) -> list[AuditRow]:
        return [row for row in self.rows if not row.problem]

    def summary(self) -> dict[str, object]:
        """Counts and names, ready for JSON."""
        used = self.used
        return {
            "path": self.path,
            "layout": self.layout,
            "clips": len(self.rows),
            "used": len(used),
            "seconds": round(sum(row.seconds for row in used), 1),
            "frames": sum(row.frames for row in used),
            "rates": _counted(f"{row.fps:.6g}" for row in used),
            "lengths": _counted(_length(row.seconds) for row in used),
            "sizes": _counted(f"{row.width}x{row.height}" for row in used),
            "cuts": sum(row.cuts for row in used),
            "without_caption": [row.name for row in used if not row.captioned],
            "variable_rate": [row.name for row in used if row.variable],
            "rotated": [row.name for row in used if row.rotation],
            "with_cuts": [row.name for row in used if row.cuts],
            "notes": {row.name: list(row.notes) for row in used if row.notes},
            "skipped": {row.name: row.problem for row in self.rows if row.problem},
            "set_aside": list(self.aside),
        }

    def json(self) -> str:
        """The summary and every row."""
        return json.dumps(self.summary() | {"files": [asdict(row) for row in self.rows]}, indent=1)

    def text(self) -> str:
        """The summary for people."""
        summary, used = self.summary(), self.used
        lines = [
            f"{self.path}: {len(used)} of {len(self.rows)} clips are used, layout {self.layout}",
            f"{summary['frames']} frames, {summary['seconds']} s, {summary['cuts']} scene cuts",
        ]
        for name in ("rates", "lengths", "sizes"):
            counts: dict[str, int] = summary[name]  # type: ignore[assignment]
            shown = [f"{value} ({count})" for value, count in islice(counts.items(), SHOWN)]
            lines.append(f"{name}: {_shortened(shown, len(counts))}")
        for key, title in (
            ("without_caption", "without a caption, trained with an empty one"),
            ("variable_rate", "variable frame rate, read by time stamps"),
            ("rotated", "turned upright"),
            ("with_cuts", "scene cuts, avoided"),
        ):
            names: list[str] = summary[key]  # type: ignore[assignment]
            if names:
                lines.append(f"{title}: {len(names)}: {_shortened(names[:SHOWN], len(names))}")
        lines += _told(used)
        skipped = [row for row in self.rows if row.problem]
        lines += [f"skipped: {row.name}: {row.problem}" for row in skipped[: 5 * SHOWN]]
        if len(skipped) > 5 * SHOWN:
            lines.append(f"skipped: {len(skipped) - 5 * SHOWN} more, see the JSON form")
        lines += [f"set aside: {each}" for each in self.aside[:SHOWN]]
        return "\n".join(lines)


def audit_data(config: DataConfig, on_file: OnFile | None = None) -> Audit:
    """Look at all files that a configuration names; what was found is kept for `open_data`.

    Raises:
        FileNotFoundError, ValueError: there is no data set, as `list_entries`. A bad file never raises.
        OSError: the cache folder cannot be written.
    """
    listing = list_entries(config.path, config.image_fps, confined=config.confined)
    store = record_store(config, listing.root)
    rows = [row for _, row in examine_all(listing, store, config, on_file)]
    return Audit(config.path, listing.layout, tuple(rows), listing.aside)


def record_store(config: DataConfig, root: Path) -> RecordStore:
    """The store of a data set's records."""
    return RecordStore(cache_folder(config, root))


def cache_folder(config: DataConfig, root: Path) -> Path:
    return Path(config.cache_directory) if config.cache_directory else root / ".i2v_cache"


def examine_all(
    listing: Listing, store: RecordStore, config: DataConfig, on_file: OnFile | None = None
) -> Iterator[tuple[Entry, AuditRow]]:
    """Every entry with its row, in order; files are decoded side by side, for the decoder lets others run."""
    remaining, done = iter(listing.entries), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while some := list(islice(remaining, 256)):
            for entry, row in zip(some, pool.map(lambda entry: audit_entry(entry, store, config), some), strict=True):
                done += 1
                if on_file is not None:
                    on_file(done, len(listing.entries), entry.name)
                yield entry, row


def audit_entry(entry: Entry, store: RecordStore, config: DataConfig) -> AuditRow:
    """Look at one entry."""
    captioned = bool(entry.caption)
    if entry.media is None or entry.problem:
        return AuditRow(entry.name, entry.problem, captioned)
    record = store.get(entry.media, config.avoid_cuts)
    if record.index is None:
        return AuditRow(entry.name, record.problem, captioned)
    index, look, cuts = record.index, record.index.look, cuts_of(record, config)
    timed = not isinstance(entry.media, FrameFolder) or config.image_fps is not None
    timeline = make_timeline(index, cuts, config.run_frames, timed)
    return AuditRow(
        name=entry.name,
        problem=record.problem or unsuitable(timeline, config),
        captioned=captioned,
        frames=len(index),
        fps=round(float(index.fps), 6) if timed else 0.0,
        seconds=round(float(index.duration), 3) if timed else 0.0,
        height=look.height,
        width=look.width,
        rotation=look.rotation,
        variable=record.variable,
        cuts=len(cuts),
        content=record.content,
        notes=(*index.notes(), *([entry.note] if entry.note else [])),
    )


def cuts_of(record: FileRecord, config: DataConfig) -> tuple[int, ...]:
    """Frames that begin a new scene; none if cuts may be run over."""
    return find_cuts(record.changes or (), config.cut_threshold) if config.avoid_cuts else ()


def unsuitable(timeline: Timeline, config: DataConfig) -> str:
    """Why no clip can be cut from a file, or nothing."""
    index = timeline.index
    if len(index) == 1 and config.frames > 1:
        return "has one frame"
    if config.target_fps is not None:
        if not timeline.timed:
            return "is a folder of pictures, which tells no rate: set data.image_fps, or frame_stride for target_fps"
        if index.fps < SLOWER * config.target_fps:
            return f"has {float(index.fps):.4g} frames per second, fewer than data.target_fps {config.target_fps:g}"
    if not admissible_strides(timeline, config):
        first, end = max(timeline.shots, key=lambda shot: shot[1] - shot[0])
        asked = f"at {config.target_fps:g} fps" if config.target_fps else f"with stride {config.frame_stride}"
        shots = f"its longest of {len(timeline.shots)} shots" if len(timeline.shots) > 1 else "it"
        return f"is too short: {shots} has {end - first} frames, too few for {config.frames} {asked}"
    return ""


def _told(rows: Iterable[AuditRow]) -> list[str]:
    """A line for every note, with the files that it is about."""
    names: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            names.setdefault(note, []).append(row.name)
    return [f"{note}: {len(of)}: {_shortened(of[:SHOWN], len(of))}" for note, of in names.items()]


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _length(seconds: float) -> str:
    """The class of a histogram with edges 1, 2, 5, 10, 30, 60 s."""
    if not seconds:
        return "unknown"
    edges = (0, 1, 2, 5, 10, 30, 60)
    lower = max(edge for edge in edges if edge <= seconds)
    upper = next((edge for edge in edges if edge > seconds), None)
    return f"{lower} to {upper} s" if upper else f"over {lower} s"


def _shortened(shown: list[str], count: int) -> str:
    return ", ".join(shown) + (f" and {count - len(shown)} more" if count > len(shown) else "")
