"""Clips for training: files in every usual layout, or generated ones, behind one configuration."""

from .audit import Audit, audit_data
from .cache import CachedClips, Encoders, fill_cache, weights_hash
from .clip import Clip, ClipData
from .clips import FileClips, GeneratedClips, open_data
from .config import DataConfig, GeneratorConfig

__all__ = [
    "Audit",
    "CachedClips",
    "Clip",
    "ClipData",
    "DataConfig",
    "Encoders",
    "FileClips",
    "GeneratedClips",
    "GeneratorConfig",
    "audit_data",
    "fill_cache",
    "open_data",
    "weights_hash",
]
