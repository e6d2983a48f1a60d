"""Register of trainings from the canvas, so that a workflow goes on with its own and with nothing else.

A name and a digest of the settings make a run. What was begun is written in a folder of the host that its HTTP routes
cannot reach: a folder that somebody uploaded to the place of a run is none of ours, and is never read or written.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import folder_paths

from ...i2v_core.files import atomic_path
from ...i2v_core.training.config import TrainingConfig
from ...i2v_core.training.config_file import resolved

logger = logging.getLogger(__name__)

TRAININGS = "i2v_training"  # below the host's output folder, so that its interface can show previews
# What may change from one part of a run to the next: where it ends, and what is told on the way.
FREE = ("train.output_dir", "train.output_name", "train.max_train_steps", "train.checkpointing_steps",
        "train.checkpoints_total_limit", "train.device", "train.gradient_checkpointing", "optim.lr_warmup_steps",
        "validation", "logging", "data.cache_directory", "data.cache_latents", "data.cache_dtype",
        "method.options.encoder_file")  # fmt: skip


@dataclass(frozen=True)
class TrainingRun:
    """One training from the canvas.

    Attributes:
        name: of its folder and its file.
        folder: below the output folder.
        result: the file that Load I2V Adapter lists.
        asked: the name in the workflow, which another run may have had before.
    """

    name: str
    folder: Path
    result: Path
    asked: str

    def preview_item(self, preview: Path) -> dict[str, Any]:
        """A preview in the form that the interface plays."""
        subfolder = preview.parent.relative_to(Path(folder_paths.get_output_directory()).absolute()).as_posix()
        return {"filename": preview.name, "subfolder": subfolder, "type": "output", "format": "video/mp4"}

    @property
    def note(self) -> str:
        """A note on the name; empty if it is the one that was asked for."""
        if self.name == self.asked:
            return ""
        return f"There is another training or file of the name '{self.asked}', which stays: this one is '{self.name}'."


def digest(config: TrainingConfig) -> str:
    """SHA-256 of what makes a training what it is; where it ends and what is told on the way do not count."""
    values = json.loads(json.dumps(resolved(config)))
    for key in FREE:
        *tables, last = key.split(".")
        table: Any = values
        for name in tables:
            table = table.get(name) or {}
        table.pop(last, None)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def find_run(asked: str, settings: str) -> TrainingRun:
    """The run of this name and digest that was begun here, or the first that is free of NAME, NAME_2, NAME_3, ..."""
    begun = _read()
    numbers = (int(match[1] or 1) for folder in begun if (match := _numbered(asked).fullmatch(Path(folder).name)))
    own = (run for run in (_run(asked, number) for number in sorted(numbers)) if _goes_on(run, begun, settings))
    free = (run for run in (_run(asked, number) for number in count(1)) if not _is_taken(run))
    return next(chain(own, free))


def remember(run: TrainingRun, settings: str) -> None:
    """Write down that this run is ours, and what its file is like if there is one."""
    kept = {folder: begun for folder, begun in _read().items() if Path(folder).exists()}
    place = _register()
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(place) as temporary:
        temporary.write_text(json.dumps({**kept, str(run.folder): [settings, _state(run.result)]}), encoding="utf-8")


def _run(asked: str, number: int) -> TrainingRun:
    name = asked if number == 1 else f"{asked}_{number}"
    folder = Path(folder_paths.get_output_directory(), TRAININGS, name).absolute()
    result = Path(folder_paths.get_folder_paths("model_patches")[0], f"{name}.safetensors").absolute()
    return TrainingRun(name, folder, result, asked)


def _numbered(asked: str) -> re.Pattern[str]:
    return re.compile(re.escape(asked) + r"(?:_([2-9]|[1-9][0-9]{1,5}))?")


def _goes_on(run: TrainingRun, begun: Mapping[str, Any], settings: str) -> bool:
    """This run is ours, has these settings, and its file is still the one that it made."""
    return run.folder.is_dir() and begun.get(str(run.folder)) == [settings, _state(run.result)]


def _is_taken(run: TrainingRun) -> bool:
    return os.path.lexists(run.folder) or os.path.lexists(run.result)


def _state(file: Path) -> list[int] | None:
    """Size and time of a file, which change when another takes its place; None if there is none."""
    return [file.stat().st_size, file.stat().st_mtime_ns] if file.exists() else None


def _register() -> Path:
    return Path(folder_paths.get_system_user_directory("i2v_diffusion"), "trainings.json")


def _read() -> dict[str, Any]:
    try:
        begun = json.loads(_register().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        logger.warning("'%s' is damaged: trainings begin anew, under names with numbers.", _register())
        return {}
    return begun if isinstance(begun, dict) else {}
