"""The `train` command: a plan, then the training, then the file; ended early it can be resumed."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

import torch

from ..files import StrPath
from .config import TrainingConfig
from .config_file import read_config
from .lock import is_first_process
from .methods import plan_run, run
from .stop import TrainingCanceled

CANCELED = 130  # what a shell expects of a command that was interrupted


def train_from_file(
    config: StrPath,
    overrides: Sequence[str] = (),
    *,
    dry_run: bool = False,
    tell: Callable[[str], None],
    result: Callable[[str], None],
) -> int:
    """Train what a TOML file describes; return the exit status: 0, or 130 for a run that was ended early.

    Args:
        overrides: such as "train.max_train_steps=200".
        dry_run: tell the plan and stop.
        tell, result: what happens, and the path of the file for users; of several processes the first one speaks.

    Raises ValueError and OSError as `config_file.read_config` and `methods.run`.
    """
    resolved, speaks = read_config(config, overrides), is_first_process()
    try:
        if dry_run:
            plan = plan_run(resolved)
            if speaks:
                result(plan.text())
            return 0
        return _run(resolved, speaks, tell, result)
    except torch.cuda.OutOfMemoryError as error:
        raise ValueError(out_of_memory(resolved)) from error
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _run(config: TrainingConfig, speaks: bool, tell: Callable[[str], None], result: Callable[[str], None]) -> int:
    try:
        path = run(config, on_plan=lambda plan: tell(plan.text()) if speaks else None)
    except TrainingCanceled as canceled:
        tell(f"{canceled}; the same command goes on from here")
        return CANCELED
    if speaks:
        result(str(path))
    return 0


def end_with_input() -> None:
    """End this process as SIGTERM does as soon as its standard input closes, which it does if who started it dies."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1024):  # of the buffered reader Python's own end would wait for the lock
            pass
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def out_of_memory(config: TrainingConfig) -> str:
    """A sentence that names the keys that would help a run which the GPU's memory did not hold, best first."""
    train, data = config.train, config.data
    size = f"{data.width} x {data.height}" if hasattr(data, "width") else str(data.size)
    keys = [
        (not train.gradient_checkpointing, "train.gradient_checkpointing = true"),
        (train.mixed_precision == "no", 'train.mixed_precision = "bf16"'),
        (train.train_batch_size > 1, f"train.train_batch_size = 1 (now {train.train_batch_size}) with a larger "
         "train.gradient_accumulation_steps"),
        (config.optim.optimizer == "adamw", 'optim.optimizer = "adamw8bit"'),
        (True, f"fewer data.frames (now {data.frames}) or smaller ones (now {size})"),
    ]  # fmt: skip
    return f"the GPU's memory is full; lower it with {', '.join(words for wanted, words in keys if wanted)}"
