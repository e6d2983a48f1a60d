"""A training beside the host: where its files lie, its progress on the node, its end with the host's cancel button."""

import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import comfy.model_management
import folder_paths
from comfy.cli_args import args
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image

from ...i2v_core.files import atomic_path
from ...i2v_core.training.config import TrainingConfig
from ...i2v_core.training.config_file import write_config
from ...i2v_core.training.log import read_progress
from ...i2v_core.training.process import train_in_subprocess
from ...i2v_core.training.short_config import newest_preview
from .paths import existing_path
from .progress import progress
from .training_runs import TRAININGS, TrainingRun, digest, remember

logger = logging.getLogger(__name__)

SHOWN = 512  # pixels of the live preview's longer side


def data_folder(text: str) -> Path | None:
    """The clips that a workflow names: below the input folder, or a full path in a folder of the host's; None for "".

    Raises ValueError for any other.
    """
    return existing_path(text.strip().strip('"'), "data") if text.strip() else None


def cache_folder() -> Path:
    """Cache folder of trainings from the canvas; no run can have this name."""
    return Path(folder_paths.get_output_directory(), TRAININGS, ".cache").absolute()


def training_device() -> Literal["auto", "cpu"]:
    """The device that the host itself runs on."""
    return "cpu" if args.cpu else "auto"


def nothing() -> Any:
    """An output that there is not this time: what is connected to it is left out."""
    return ExecutionBlocker(None)


def train(config: TrainingConfig, run: TrainingRun) -> Path:
    """Train in a process of its own and put the result where Load I2V Adapter lists it; progress shows on the node.

    Raises ValueError with the process's own sentence if it fails, and what the host raises when it is canceled.
    """
    _make_room()
    if run.note:
        logger.warning(run.note)
    settings = digest(config)
    remember(run, settings)
    run.folder.mkdir(parents=True, exist_ok=True)
    write_config(config, run.folder / "train.toml")
    train_in_subprocess(run.folder / "train.toml", run.folder / "train.log", _watch(run.folder))
    run.result.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(run.result) as temporary:
        shutil.copyfile(run.folder / run.result.name, temporary)
    remember(run, settings)
    return run.result


def plan(config: TrainingConfig, run: TrainingRun) -> str:
    """Plan of a training, in lines for people; nothing is left of it."""
    _make_room()
    update = progress(1)
    with tempfile.TemporaryDirectory() as folder:
        write_config(_kept_in(config, Path(folder)), Path(folder, "train.toml"))
        told = train_in_subprocess(
            Path(folder, "train.toml"), Path(folder, "train.log"), partial(update, 0), dry_run=True
        )
    return "\n".join(filter(None, (told, run.note)))


def _kept_in(config: TrainingConfig, folder: Path) -> TrainingConfig:
    """The same training, with whatever it would keep put into a folder that goes away."""
    if hasattr(config.data, "cache_directory"):
        config = replace(config, data=replace(config.data, cache_directory=str(folder)))
    encoder = config.method.options.get("encoder_file")
    if encoder is None or Path(encoder).exists():
        return config
    options = {**config.method.options, "encoder_file": str(folder / "image_encoder.safetensors")}
    return replace(config, method=replace(config.method, options=options))


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
