"""What a run tells: rows in log.jsonl and in TensorBoard, and progress.json for whoever watches."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..files import StrPath, atomic_path
from .objective import ClipLosses

State = Literal["preparing", "training", "canceled", "failed", "done"]
WRITE_AGAIN = 1.0  # seconds between two writings of progress.json in one state
QUARTILES = 4


@dataclass(frozen=True)
class Progress:
    """How far a run is; also the content of progress.json.

    Attributes:
        part: which training of a run, such as "autoencoder" before "video_base".
        loss: of the last step.
        seconds: spent on steps, over all resumed parts.
        preview: newest preview video.
        result: the file for users, once it is written.
    """

    part: str
    state: State
    step: int
    steps: int
    loss: float | None = None
    seconds: float = 0.0
    preview: str | None = None
    result: str | None = None
    message: str | None = None


@dataclass
class ProgressFile:
    """progress.json in a run's folder, replaced as a whole, at most once a second while nothing new happens."""

    path: Path
    _last: Progress | None = None
    _written: float = field(default=float("-inf"))

    def write(self, progress: Progress) -> None:
        """Tell it, unless the same was told a moment ago."""
        last, now = self._last, time.monotonic()
        same = last is not None and (last.state, last.preview) == (progress.state, progress.preview)
        if same and now - self._written < WRITE_AGAIN:
            return
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        self._last, self._written = progress, now


def read_progress(folder: StrPath) -> Progress | None:
    """How far the run of a folder is, None if it has not begun."""
    path = Path(folder) / "progress.json"
    return Progress(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


@dataclass
class Window:
    """What gathers between two rows of the log.

    Attributes:
        sums: of the clips' losses and of the share that lost text, image and both.
        quartiles: of the plain losses by quarter of the schedule, and the clips in each.
    """

    clips: int = 0
    seconds: float = 0.0
    sums: Tensor = field(default_factory=lambda: torch.zeros(5, dtype=torch.float64))
    quartiles: Tensor = field(default_factory=lambda: torch.zeros(2, QUARTILES, dtype=torch.float64))

    def add(self, losses: ClipLosses, timesteps: int) -> None:
        """Take in the losses of some clips; `timesteps` are those of the schedule."""
        text, image = losses.no_text.double(), losses.no_image.double()
        columns = (losses.weighted, losses.plain, text, image, text * image)
        self.clips += len(losses.plain)
        self.sums += torch.stack([column.double() for column in columns]).sum(1)
        quartile = (losses.timesteps * QUARTILES // timesteps).long().clamp(max=QUARTILES - 1)
        self.quartiles[0].index_add_(0, quartile, losses.plain.double())
        self.quartiles[1].index_add_(0, quartile, torch.ones(len(quartile), dtype=torch.float64))

    def row(self) -> dict[str, float]:
        """Means over the window; a quarter of the schedule that no clip fell into is left out."""
        names = ("loss", "loss_plain", "text_lost", "image_lost", "both_lost")
        row = dict(zip(names, (self.sums / max(1, self.clips)).tolist(), strict=True))
        for index, (total, count) in enumerate(self.quartiles.T.tolist(), start=1):
            if count:
                row[f"loss_quartile_{index}"] = total / count
        row["clips_per_second"] = self.clips / self.seconds if self.seconds else 0.0
        return row


@dataclass
class Place:
    """Where a run is, kept in its checkpoints: steps done, clips seen, seconds spent, and the unfinished log row."""

    step: int = 0
    items: int = 0
    seconds: float = 0.0
    window: Window = field(default_factory=Window)

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self), "window": vars(self.window)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update({**state, "window": Window(**state["window"])})


def append_row(path: Path, row: dict[str, float]) -> None:
    """Add a row to a log of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({name: _short(value) for name, value in row.items()}) + "\n")


def forget_rows_after(path: Path, step: int) -> None:
    """Drop the rows of steps that a resumed run will do again."""
    if not path.exists():
        return
    rows = [line for line in path.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def read_log(folder: StrPath) -> list[dict[str, float]]:
    """The rows of a run's log.jsonl."""
    text = (Path(folder) / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def peak_memory(device: torch.device) -> int | None:
    """Largest memory so far in bytes: of the process on the CPU, of its tensors on a GPU; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def whole_memory(device: torch.device) -> int | None:
    """Bytes of a GPU's memory; None for the CPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError):  # half a line, of a run that was killed
        return float("inf")


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")
