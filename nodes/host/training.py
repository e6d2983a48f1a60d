"""A training beside the host: where its files lie, its progress on the node, its end with the host's cancel button."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import comfy.model_management
import folder_paths
from comfy.cli_args import args
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image

from ...i2v_core.files import atomic_path
from ...i2v_core.training.brief import newest_preview
from ...i2v_core.training.config import TrainingConfig
from ...i2v_core.training.config_file import write_config
from ...i2v_core.training.log import read_progress
from ...i2v_core.training.process import train_apart
from .progress import progress

TRAININGS = "i2v_training"  # below the host's output folder, so that its interface can show previews
SHOWN = 512  # pixels of the live preview's longer side


@dataclass(frozen=True)
class TrainingPlace:
    """Where a training lives: its folder, and the file that Load I2V Adapter lists."""

    folder: Path
    result: Path

    def preview_item(self, preview: Path) -> dict[str, Any]:
        """What the interface needs to play a preview."""
        subfolder = preview.parent.relative_to(folder_paths.get_output_directory()).as_posix()
        return {"filename": preview.name, "subfolder": subfolder, "type": "output", "format": "video/mp4"}


def training_place(name: str) -> TrainingPlace:
    """The place of a result of this name.

    Raises ValueError for a name that is no file's, or that a file has which no training of this name made.
    """
    if not name.strip() or Path(name).name != name or name.startswith(".") or set(name) & set('\\/:*?"<>|'):
        raise ValueError(f"output_name must be a plain name, such as 'my_look_back', got '{name}'.")
    folder = Path(folder_paths.get_output_directory(), TRAININGS, name).absolute()
    result = Path(folder_paths.get_folder_paths("model_patches")[0], f"{name}.safetensors").absolute()
    if result.exists() and not (folder / "config.toml").exists():
        raise ValueError(f"There is a file '{result}' already, which was not trained here: choose another output_name.")
    return TrainingPlace(folder, result)


def data_folder(text: str) -> Path | None:
    """The folder of clips: an absolute path, or one below the host's input folder; None for an empty text.

    Raises ValueError if there is nothing of that name.
    """
    if not text.strip():
        return None
    path = Path(folder_paths.get_input_directory(), Path(text.strip().strip('"')).expanduser()).absolute()
    if not path.exists():
        raise ValueError(f"There is no '{path}': data takes a folder of clips, or nothing for the demo's own clips.")
    return path


def training_device() -> Literal["auto", "cpu"]:
    """What the host itself runs on."""
    return "cpu" if args.cpu else "auto"


def nothing() -> Any:
    """An output that there is not this time: what is connected to it is left out."""
    return ExecutionBlocker(None)


def train(config: TrainingConfig, place: TrainingPlace) -> Path:
    """Train in a process of its own and put the result where Load I2V Adapter lists it; progress shows on the node.

    Raises ValueError with the process's own sentence if it fails, and what the host raises when it is canceled.
    """
    _make_room()
    place.folder.mkdir(parents=True, exist_ok=True)
    write_config(config, place.folder / "train.toml")
    train_apart(place.folder / "train.toml", place.folder / "train.log", _watch(place.folder))
    place.result.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(place.result) as temporary:
        shutil.copyfile(place.folder / place.result.name, temporary)
    return place.result


def plan(config: TrainingConfig) -> str:
    """What `train` would do, in lines for people; nothing is written."""
    _make_room()
    update = progress(1)
    with tempfile.TemporaryDirectory() as folder:
        write_config(config, Path(folder, "train.toml"))
        return train_apart(Path(folder, "train.toml"), Path(folder, "train.log"), partial(update, 0), dry_run=True)


def _make_room() -> None:
    """Give the other process the memory of this one's models; the host loads them again when it needs them."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


def _watch(folder: Path) -> Callable[[], None]:
    """Shows progress and new previews, and raises when the user cancels."""
    update, shown = progress(1), newest_preview(folder)

    def watch() -> None:
        nonlocal shown
        now, preview = read_progress(folder), newest_preview(folder)
        is_new, shown = preview != shown, preview
        picture = ("JPEG", _contact_sheet(preview), SHOWN) if preview is not None and is_new else None
        step, steps = (now.step, now.steps) if now else (0, 1)
        update(step, steps, picture)

    return watch


def _contact_sheet(preview: Path) -> Any:
    with Image.open(preview.with_suffix(".png")) as picture:
        return picture.convert("RGB")
