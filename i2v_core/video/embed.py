"""Texts inside finished PNG and WebP files, where the host's front end looks for its workflow."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

# IFD entries that the host uses for texts `key:value`: Model for the prompt, Make and those below it for all others.
_MODEL, _MAKE = 0x0110, 0x010F
_HAS_EXIF, _HAS_ALPHA = 0x08, 0x10


def embed_in_png(path: Path, texts: Mapping[str, str]) -> None:
    """Write texts (Latin-1) in front of the last chunk of a PNG or APNG, in place."""
    end = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
    with path.open("r+b") as file:
        file.seek(-len(end), 2)
        for key, text in texts.items():
            content = b"tEXt" + key.encode("latin-1") + b"\0" + text.encode("latin-1")
            file.write(struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content)))
        file.write(end)


def embed_in_webp(path: Path, texts: Mapping[str, str]) -> None:
    """Append texts to a WebP as EXIF, as the host's Save Animated WEBP does, in place."""
    exif = Image.Exif()
    others = [key for key in texts if key != "prompt"]
    for tag, key in {_MODEL: "prompt", **{_MAKE - i: key for i, key in enumerate(others)}}.items():
        if key in texts:
            exif[tag] = f"{key}:{texts[key]}"
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    _make_room(path)
    with path.open("r+b") as file:
        file.seek(20)
        flags = file.read(1)[0]
        file.seek(20)
        file.write(bytes([flags | _HAS_EXIF]))
        file.seek(0, 2)
        file.write(struct.pack("<4sI", b"EXIF", len(content)) + content + b"\0" * (len(content) % 2))
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", size))


def _make_room(path: Path) -> None:
    """Give a WebP of one frame the extended header, without which it has no room for EXIF."""
    with path.open("rb") as file:
        if file.read(16)[12:] == b"VP8X":
            return
    with Image.open(path) as picture:
        (width, height), alpha = picture.size, picture.mode == "RGBA"
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    header = struct.pack("<4sIBxxx", b"VP8X", 10, _HAS_ALPHA * alpha) + sides
    content = path.read_bytes()
    path.write_bytes(content[:12] + header + content[12:])
