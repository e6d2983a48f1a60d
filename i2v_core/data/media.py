"""Sources of clips: a video file, a member of a tar archive, or a folder of pictures."""

import hashlib
import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..video import FrameIndex, as_fps, fit_image, index_frames, read_frames, stream_frames
from ..video.look import Look
from ..video.pictures import picture_size, read_picture
from ..video.scan import THUMBNAIL, scan_video
from ..video.sources import FileSlice

VIDEO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        "mp4", "mov", "m4v", "webm", "mkv", "avi", "mpg", "mpeg", "ts", "mts", "m2ts", "wmv", "flv", "ogv", "3gp",
        "gif",
    )
)  # fmt: skip
IMAGE_SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"])


class Media(Hashable, Protocol):
    """Frames that can be addressed by number."""

    def stamp(self) -> str:
        """Path and state (size and time of the last change), without reading it; OSError if it is gone."""

    def content_hash(self) -> str:
        """SHA-256 of everything in it."""

    def index(self) -> FrameIndex:
        """Time of every frame and their look; ValueError if it cannot be read."""

    def thumbnails(self, index: FrameIndex) -> Iterator[NDArray[np.uint8]]:
        """All frames in order, small, `h w 3`; ValueError for what `read` could not give."""

    def read(self, frames: Sequence[int], index: FrameIndex, size: tuple[int, int], threads: int) -> Tensor:
        """These frames, in any order, resized and cropped to (height, width): `t h w 3`, uint8."""

    def stream(self, frames: Sequence[int], index: FrameIndex, size: tuple[int, int], threads: int) -> Iterator[Tensor]:
        """The same one by one, `h w 3`; the numbers ascend."""


@dataclass(frozen=True)
class VideoMedia:
    """A video by its path, or a member of a tar archive."""

    source: str | FileSlice

    def stamp(self) -> str:
        path, part = (self.source, "") if isinstance(self.source, str) else (self.source.path, f":{self.source.start}")
        return _stamp(Path(path)) + part

    def content_hash(self) -> str:
        with Path(self.source).open("rb") if isinstance(self.source, str) else self.source.open() as stream:
            return _hash_stream(stream)

    def index(self) -> FrameIndex:
        return index_frames(self.source)

    def thumbnails(self, index: FrameIndex) -> Iterator[NDArray[np.uint8]]:
        return scan_video(self.source, index, threads=1)

    def read(self, frames: Sequence[int], index: FrameIndex, size: tuple[int, int], threads: int) -> Tensor:
        return read_frames(self.source, frames, index=index, size=size, threads=threads).frames

    def stream(self, frames: Sequence[int], index: FrameIndex, size: tuple[int, int], threads: int) -> Iterator[Tensor]:
        return stream_frames(self.source, frames, index=index, size=size, threads=threads)


@dataclass(frozen=True)
class FrameFolder:
    """A folder of pictures, in the natural order of their names: frame 10 after frame 9."""

    folder: str
    fps: float | None

    def _files(self) -> list[Path]:
        files = [path for path in Path(self.folder).iterdir() if is_picture(path)]
        return sorted(files, key=lambda path: natural(path.name))

    def stamp(self) -> str:
        stamps = "\n".join(_stamp(path) for path in self._files())
        return f"{self.folder} {hashlib.sha256(stamps.encode()).hexdigest()} {self.fps}"

    def content_hash(self) -> str:
        digest = hashlib.sha256()
        for path in self._files():
            with path.open("rb") as stream:
                digest.update(_hash_stream(stream).encode())
        return digest.hexdigest()

    def index(self) -> FrameIndex:
        files = self._files()
        if not files:
            raise ValueError(f"'{self.folder}' holds no pictures.")
        rate = as_fps(self.fps or 1)
        numbers = tuple(range(len(files)))
        look = Look(*picture_size(files[0]))
        return FrameIndex(numbers, numbers, 1 / rate, rate, Fraction(len(files)) / rate, look)

    def thumbnails(self, index: FrameIndex) -> Iterator[NDArray[np.uint8]]:
        width, height = THUMBNAIL
        for path in self._files():
            yield fit_image(read_picture(path), height, width, "stretch").numpy()

    def read(self, frames: Sequence[int], index: FrameIndex, size: tuple[int, int], threads: int) -> Tensor:
        return torch.stack(list(self.stream(frames, index, size, threads)))

    def stream(self, frames: Sequence[int], index: FrameIndex, size: tuple[int, int], threads: int) -> Iterator[Tensor]:
        files = self._files()
        if len(files) != len(index):
            raise ValueError(f"'{self.folder}' had {len(index)} pictures and has {len(files)} now: start again.")
        for i in frames:
            yield fit_image(read_picture(files[i]), *size)


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorting key under which numbers inside names count as numbers."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"


def _hash_stream(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    for block in iter(partial(stream.read, 1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()
