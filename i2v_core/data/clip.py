"""One clip of a data set of files for every number, without end, the same for the same number."""

import hashlib
from dataclasses import dataclass

import torch

from .clips import DataClip


@dataclass(frozen=True, eq=False)
class FileClip(DataClip):
    """One clip of a file.

    Attributes:
        name: the file, for messages.
    """

    name: str = ""


def seeded(seed: int, *place: int | str) -> torch.Generator:
    """Random numbers of a place in the data, independent of those of every other place."""
    digest = hashlib.sha256(repr((seed, *place)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def integer(generator: torch.Generator, end: int) -> int:
    """A random number from 0 to `end` - 1."""
    return int(torch.randint(end, (), generator=generator))
