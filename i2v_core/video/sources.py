"""Sources of a video's bytes: a file, a part of one, or memory."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ..files import StrPath


class ByteSource(Protocol):
    """Bytes that can be read any number of times; `str` names them in messages."""

    def open(self) -> BinaryIO: ...


Source = StrPath | ByteSource


@dataclass(frozen=True)
class FileSlice:
    """A video inside a larger file, such as a member of a tar archive."""

    path: str
    start: int
    size: int
    name: str

    def open(self) -> BinaryIO:
        return io.BufferedReader(_Window(self.path, self.start, self.size))

    def __str__(self) -> str:
        return f"{self.path}/{self.name}"


@dataclass(frozen=True)
class InMemory:
    """A video file in memory."""

    content: bytes
    name: str = "video in memory"

    def open(self) -> BinaryIO:
        return io.BytesIO(self.content)

    def __str__(self) -> str:
        return self.name


class _Window(io.RawIOBase):
    """Reads the bytes `start` to `start + size` of a file as if they were a file."""

    def __init__(self, path: str, start: int, size: int) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115, closed with this object
        self._start, self._size, self._position = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = max(min(len(buffer), self._size - self._position), 0)
        self._file.seek(self._start + self._position)
        content = self._file.read(wanted)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()
