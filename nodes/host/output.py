"""Where the host wants files, and what it embeds in them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args

from .paths import checked_prefix


@dataclass(frozen=True)
class OutputFile:
    """A file name reserved in the host's output or temp folder, in the parts that the interface asks for."""

    path: Path
    subfolder: str
    type: str

    def item(self, shown: Path, **extra: object) -> dict[str, object]:
        """Return the entry that the interface and API clients read to find the file, or one in it if it is a folder."""
        inside = shown.relative_to(self.path.parent).parent
        subfolder = Path(self.subfolder, inside).as_posix() if inside.parts else self.subfolder
        return {"filename": shown.name, "subfolder": subfolder, "type": self.type, **extra}


def output_file(prefix: str, extension: str, *, height: int, width: int, temporary: bool) -> OutputFile:
    """Return the next free name for a prefix such as `I2V/clip`, and make its folder.

    Raises:
        ValueError: the prefix names no file below that folder, or one that some system does not take.
        OSError: the folder cannot be made or read.
    """
    root = folder_paths.get_temp_directory() if temporary else folder_paths.get_output_directory()
    name = checked_prefix(prefix, "filename_prefix", root)
    try:
        folder, stem, counter, subfolder, _ = folder_paths.get_save_image_path(name, root, width, height)
    except OSError as error:
        raise OSError(
            f"Cannot use the folder '{Path(root, name).parent}': {error.strerror}. "
            "Check its rights and the free space, or choose another filename_prefix."
        ) from error
    path = Path(folder, f"{stem}_{counter:05}_{extension}").absolute()
    return OutputFile(path, subfolder, "temp" if temporary else "output")


def embedded_metadata(prompt: object, extra: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what to store in a file so that dropping it on the canvas restores the graph: JSON by key.

    Args:
        prompt: the graph in API form; the extra entries (above all `workflow`) are None in headless runs.
    """
    if args.disable_metadata:
        return {}
    stored = dict(extra or {}) | ({} if prompt is None else {"prompt": prompt})
    return {key: json.dumps(value) for key, value in stored.items()}
