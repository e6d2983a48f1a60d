"""Clips for training: files in every usual layout, or generated ones, behind one configuration."""

from .audit import Audit, audit_data
from .clip import Clip, ClipData
from .clips import FileClips, open_data
from .config import DataConfig, GeneratorConfig

__all__ = ["Audit", "Clip", "ClipData", "DataConfig", "FileClips", "GeneratorConfig", "audit_data", "open_data"]
