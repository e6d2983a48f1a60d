"""The `train` command: a plan, then the training, then the file; ended early it can be resumed."""

import os
from collections.abc import Callable, Sequence

import torch

from ..files import StrPath
from .config import TrainingConfig
from .config_file import read_config
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
    resolved, speaks = read_config(config, overrides), os.environ.get("RANK", "0") == "0"
    if dry_run:
        plan = plan_run(resolved)
        if speaks:
            result(plan.text())
        return 0
    try:
        return _run(resolved, speaks, tell, result)
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
