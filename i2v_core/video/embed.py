"""Texts inside finished PNG and WebP files, where the host's front end looks for its workflow."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from PIL import Image

# IFD entries that the host uses for texts `key:value`: Model for the prompt, Make and those below it for all others.
_MODEL, _MAKE = 0x0110, 0x010F
_HAS_EXIF, _HAS_ALPHA = 0x08, 0x10
_PNG_HEADER = 33  # bytes: the signature and the first chunk
_BLOCK = 2**20


def embed_in_png(path: Path, texts: Mapping[str, str]) -> None:
    """Write texts (Latin-1) behind the header of a PNG or APNG, in place."""
    chunks = b""
    for key, text in texts.items():
        content = b"tEXt" + key.encode("latin-1") + b"\0" + text.encode("latin-1")
        chunks += struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    with path.open("r+b") as file:
        _insert(file, _PNG_HEADER, chunks)


def embed_in_webp(path: Path, texts: Mapping[str, str]) -> None:
    """Append texts to a WebP as EXIF, as the host's Save Animated WEBP does, in place."""
    exif = Image.Exif()
    others = [key for key in texts if key != "prompt"]
    for tag, key in {_MODEL: "prompt", **{_MAKE - i: key for i, key in enumerate(others)}}.items():
        if key in texts:
            exif[tag] = f"{key}:{texts[key]}"
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    with Image.open(path) as picture:
        (width, height), alpha = picture.size, picture.mode == "RGBA"
    with path.open("r+b") as file:
        if file.read(16)[12:] != b"VP8X":
            # A single frame has the short header, which does not announce EXIF.
            sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
            _insert(file, 12, struct.pack("<4sIBxxx", b"VP8X", 10, _HAS_ALPHA * alpha) + sides)
        file.seek(20)
        flags = file.read(1)[0]
        file.seek(20)
        file.write(bytes([flags | _HAS_EXIF]))
        file.seek(0, 2)
        file.write(struct.pack("<4sI", b"EXIF", len(content)) + content + b"\0" * (len(content) % 2))
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", size))


def _insert(file: BinaryIO, position: int, content: bytes) -> None:
    """Move what follows `position` back, last block first, so that no second file and little memory are needed."""
    end = file.seek(0, 2)
    while end > position:
        start = max(position, end - _BLOCK)
        file.seek(start)
        block = file.read(end - start)
        file.seek(start + len(content))
        file.write(block)
        end = start
    file.seek(position)
    file.write(content)
