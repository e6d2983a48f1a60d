"""The log of a run: rows in log.jsonl and in TensorBoard, and progress.json for whoever watches."""

import json
import math
import signal
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..decoding import DecodingError, decode
from ..files import StrPath, atomic_path
from ..text_files import TextFileError, parse_json, read_json, read_lines
from .lock import is_held
from .objective import ClipLosses

State = Literal["preparing", "training", "canceled", "failed", "done", "interrupted"]
RUNNING: tuple[State, ...] = ("preparing", "training")
LARGEST = 2**16  # bytes of a progress.json that is read
KILLED = (-9, 137)  # a shell's number for the same
GO_ON = "start it again to go on from its last checkpoint"
COUNT = 2**53  # beyond it not every reader of JSON has exact numbers
WRITE_AGAIN = 1.0  # seconds between two writings of progress.json in one state
QUARTILES = 4


@dataclass(frozen=True)
class Progress:
    """Progress of a run; also the content of progress.json.

    Attributes:
        part: which training of a run, such as "autoencoder" before "video_base".
        state: "interrupted" is never written: a run that was killed cannot say so, and its reader finds out.
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
            loss = progress.loss if progress.loss is not None and math.isfinite(progress.loss) else None
            temporary.write_text(json.dumps(asdict(replace(progress, loss=loss))), encoding="utf-8")
        self._last, self._written = progress, now


def read_progress(folder: StrPath) -> Progress | None:
    """Read a run's progress, "interrupted" if it was killed; None before it begins, or for a broken file."""
    told = _told(Path(folder) / "progress.json")
    if told is None or told.state not in RUNNING or is_held(folder):
        return told
    where = f"at step {told.step} of {told.steps}" if told.step else "before its first step"
    return replace(told, state="interrupted", message=f"the training was interrupted {where}: {GO_ON}")


def words_of_end(status: int) -> str:
    """Why a training's process ended that could not say so itself; `status` as `Popen.returncode` has it."""
    if status in KILLED:
        cause = "the system killed the training (SIGKILL), most often because the memory was full"
    elif status < 0:
        cause = f"the training was ended by {_signal(-status)}"
    else:
        cause = f"the training ended without a word (status {status})"
    return f"{cause}; {GO_ON}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _told(path: Path) -> Progress | None:
    try:
        return decode(Progress, read_json(path, limit=LARGEST))
    except (OSError, TextFileError, DecodingError):  # not there, replaced at this moment, or not ours
        return None


@dataclass
class LogWindow:
    """Sums that gather between two rows of the log.

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
    """Position of a run, kept in its checkpoints: steps done, clips seen, seconds spent, and the unfinished log row."""

    step: int = 0
    items: int = 0
    seconds: float = 0.0
    window: LogWindow = field(default_factory=LogWindow)

    def numbers(self) -> dict[str, Any]:
        """As JSON can hold it, which knows no NaN."""
        window = self.window
        sums = {"sums": _numbers(window.sums), "quartiles": [_numbers(row) for row in window.quartiles]}
        return {**vars(self), "window": {**vars(window), **sums}}

    @classmethod
    def of(cls, numbers: Any) -> "Place":
        """Rebuild a position from its `numbers`; ValueError for anything else."""
        window = numbers.get("window") if isinstance(numbers, dict) else None
        if not isinstance(window, dict):
            raise ValueError("the place of the training is missing")
        gathered = LogWindow(
            count(window.get("clips"), "clips"),
            _seconds(window.get("seconds")),
            _sums(window.get("sums"), (5,)),
            _sums(window.get("quartiles"), (2, QUARTILES)),
        )
        steps, items = count(numbers.get("step"), "step"), count(numbers.get("items"), "items")
        return cls(steps, items, _seconds(numbers.get("seconds")), gathered)


def count(value: Any, name: str) -> int:
    """A number of things; ValueError if it cannot be one."""
    if type(value) is not int or not 0 <= value <= COUNT:
        raise ValueError(f"'{name}' has to be a whole number from 0 to 2^53")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError("'seconds' has to be a number from 0")
    return float(value)


def _numbers(sums: Tensor) -> list[float | None]:
    return [number if math.isfinite(number) else None for number in sums.tolist()]


def _sums(values: Any, shape: tuple[int, ...]) -> Tensor:
    """Nested lists of numbers as a tensor, with NaN for None."""
    rows = values if len(shape) == 2 else [values]
    complete = isinstance(rows, list) and len(rows) == math.prod(shape[:-1])
    if not complete or not all(isinstance(row, list) and len(row) == shape[-1] for row in rows):
        raise ValueError("the losses since the last row of the log are incomplete")
    numbers = [math.nan if number is None else number for row in rows for number in row]
    if not all(type(number) is float for number in numbers):
        raise ValueError("the losses since the last row of the log are no numbers")
    return torch.tensor(numbers, dtype=torch.float64).reshape(shape)


def append_row(path: Path, row: dict[str, float]) -> None:
    """Add a row to a log of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({name: _short(value) for name, value in row.items()}) + "\n")


def forget_rows_after(path: Path, step: int) -> None:
    """Drop the rows of steps that a resumed run will do again."""
    if not path.exists():
        return
    rows = [line for line in read_lines(path) if _step(line) <= step]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def read_log(folder: StrPath) -> list[dict[str, float]]:
    """The rows of a run's log.jsonl."""
    path = Path(folder) / "log.jsonl"
    return [parse_json(line, f"a row of '{path}'", finite=False) for line in read_lines(path)]


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
        return float(parse_json(line, finite=False)["step"])
    except (TextFileError, KeyError, TypeError):  # half a line, of a run that was killed
        return float("inf")


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")
