"""Weights files: read many dialects, write our own and LVDM's, never execute what a file carries."""

from .adapters import Adapter, AdapterContents, is_adapter, load_adapter, read_adapter, save_adapter
from .checkpoint import Checkpoint, load_checkpoint, read_checkpoint, save_checkpoint
from .contents import CheckpointContents
from .files import CheckpointError
from .recognize import Dialect
from .report import describe, describe_adapter

__all__ = [
    "Adapter",
    "AdapterContents",
    "Checkpoint",
    "CheckpointContents",
    "CheckpointError",
    "Dialect",
    "describe",
    "describe_adapter",
    "is_adapter",
    "load_adapter",
    "load_checkpoint",
    "read_adapter",
    "read_checkpoint",
    "save_adapter",
    "save_checkpoint",
]
