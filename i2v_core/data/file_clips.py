"""Clips cut from files: which one an item is, and its pixels."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass

from torch.utils.data import Dataset, get_worker_info

from ..unusable import UNUSABLE
from ..video import frames_to_clip
from .audit import Audit, OnFile, cuts_of, examine_all, record_store
from .clip import FileClip, integer, seeded
from .config import DataConfig
from .layouts import list_entries
from .media import FrameFolder, Media
from .order import Order, Size, bucket_sizes, nearest_size
from .records import RecordStore
from .sampling import ClipWindow, Timeline, draw_window, make_timeline

logger = logging.getLogger("i2v_core.training")

ATTEMPTS = 8  # at other files, when one cannot be read


@dataclass(frozen=True, slots=True)
class UsedFile:
    """A file that clips are cut from, at which (height, width)."""

    name: str
    media: Media
    caption: str
    size: Size
    content: str


@dataclass(frozen=True)
class Choice:
    """The content of an item: frames of a file, one of which is the given image."""

    file: UsedFile
    timeline: Timeline
    window: ClipWindow
    image_index: int


class FileClips(Dataset[FileClip]):
    """Clips cut from files; it can be sent to other processes, such as a DataLoader's workers.

    What `clip(item)` gives depends on the configuration and on `item` alone. One pass over the files takes `len(data)`
    items, and every pass has an order of its own. Where sizes differ (`aspect_buckets`), all items of one group,
    `item // config.group`, have one size: a batch must lie within a group. Items `step * batch + i` do if `batch`
    divides `group`, and so do the batches of several processes if their sum does.

    A file that was good when the run began and cannot be read any more is named in the log, and another one of its size
    takes its place.
    """

    def __init__(self, config: DataConfig, files: list[UsedFile], audit: Audit, store: RecordStore) -> None:
        self.config, self.files, self.audit, self.store = config, files, audit, store
        buckets: dict[Size, list[int]] = {}
        for number, file in enumerate(files):
            buckets.setdefault(file.size, []).append(number)
        self.order = Order(list(buckets.values()), config.group if len(buckets) > 1 else 1, config.seed)
        self._named: set[str] = set()

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, item: int) -> FileClip:
        return self.clip(item)

    def clip(self, item: int) -> FileClip:
        return self.first_readable(item, self.decode)

    def summary(self) -> str:
        """The files that are used, their properties, and those that are not used."""
        return self.audit.text()

    def fingerprint(self) -> str:
        """SHA-256 of the files, the captions, and how clips are cut from them."""
        digest = hashlib.sha256(repr({**asdict(self.config), "path": "", "cache_directory": ""}).encode())
        for file in self.files:
            digest.update(repr((file.content, file.caption)).encode())
        return digest.hexdigest()

    def first_readable(self, item: int, read: Callable[[Choice], FileClip]) -> FileClip:
        """Read what an item shows or, if its file went bad, another one.

        Raises ValueError if others are bad too.
        """
        number = self.order.place(item)
        for attempt in range(1, ATTEMPTS + 1):
            file = self.files[number]
            try:
                return read(self.choose(file, item))
            except UNUSABLE as error:
                if file.name not in self._named:
                    logger.warning("%s is skipped: %s", file.name, error)
                    self._named.add(file.name)
                number, last = self.order.instead(item, attempt), error
        raise ValueError(f"{ATTEMPTS} files in a row cannot be read. The last one: {last}")

    def timeline(self, file: UsedFile) -> Timeline:
        """The frames of a file that may be used. Raises ValueError if it cannot be read any more."""
        record = self.store.recall(file.media, self.config.avoid_cuts)
        if record.index is None or record.problem:
            raise ValueError(record.problem)
        timed = not isinstance(file.media, FrameFolder) or self.config.image_fps is not None
        return make_timeline(record.index, cuts_of(record, self.config), self.config.run_frames, timed)

    def choose(self, file: UsedFile, item: int) -> Choice:
        """Draw what an item shows of a file."""
        generator = seeded(self.config.seed, "clip", item)
        timeline = self.timeline(file)
        window = draw_window(timeline, self.config, generator)
        image_index = integer(generator, self.config.frames) if self.config.rand_cond_frame else 0
        return Choice(file, timeline, window, image_index)

    def decode(self, choice: Choice) -> FileClip:
        """Read the pixels."""
        file, index = choice.file, choice.timeline.index
        pixels = frames_to_clip(file.media.read(choice.window.frames, index, file.size, decoder_threads()))
        return FileClip(
            image=pixels[:, choice.image_index],
            image_index=choice.image_index,
            caption=file.caption,
            pixels=pixels,
            fps=choice.window.fps,
            stride=choice.window.stride,
            name=file.name,
        )


def decoder_threads() -> int:
    """One in a worker, beside which others run; elsewhere as many as the decoder likes."""
    return 0 if get_worker_info() is None else 1


def sizes_of(config: DataConfig) -> tuple[Size, ...]:
    """All (height, width) that clips come in."""
    if not config.aspect_buckets:
        return ((config.height, config.width),)
    return bucket_sizes(config.height, config.width, config.bucket_step)


def open_data(config: DataConfig, on_file: OnFile | None = None) -> FileClips:
    """Open the data set of a configuration; files are looked at as `audit_data` does, which the next run need not.

    Args:
        on_file: called with the files done, their number, and a name.

    Raises:
        FileNotFoundError, ValueError: there is no data set, or no clip in it that can be used.
        OSError: the cache folder cannot be written.
    """
    listing = list_entries(config.path, config.image_fps, confined=config.confined)
    store = record_store(config, listing.root)
    sizes = sizes_of(config)
    files, rows = [], []
    for entry, row in examine_all(listing, store, config, on_file):
        rows.append(row)
        if not row.problem and entry.media is not None:
            size = nearest_size(row.height, row.width, sizes)
            files.append(UsedFile(entry.name, entry.media, entry.caption or "", size, row.content))
    audit = Audit(config.path, listing.layout, tuple(rows), listing.aside)
    if not files:
        raise ValueError(f"no clip of '{config.path}' can be used; {rows[0].name}: {rows[0].problem}.\n{audit.text()}")
    logger.info("%s", audit.text())
    return FileClips(config, files, audit, store)
