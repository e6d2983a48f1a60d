"""Weights files: read many dialects, write our own and LVDM's, never execute what a file carries."""

from .checkpoint import Checkpoint, load_checkpoint, read_checkpoint, save_checkpoint
from .contents import CheckpointContents
from .files import CheckpointError
from .recognize import Dialect
from .report import describe

__all__ = [
    "Checkpoint",
    "CheckpointContents",
    "CheckpointError",
    "Dialect",
    "describe",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
]
