"""Clips for training: files cut from files in every usual layout, behind one configuration."""

from .audit import Audit, audit_data
from .cache import CachedClips, CacheEncoders, fill_cache, weights_hash
from .clip import FileClip
from .config import DataConfig
from .file_clips import FileClips, open_data

__all__ = [
    "Audit",
    "CacheEncoders",
    "CachedClips",
    "DataConfig",
    "FileClip",
    "FileClips",
    "audit_data",
    "fill_cache",
    "open_data",
    "weights_hash",
]
