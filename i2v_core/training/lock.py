"""One training at a time in a folder, whoever starts it; and whether one is there."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..files import StrPath

logger = logging.getLogger("i2v_core.training")

NAME = ".lock"
TRIES, PAUSE = 5, 0.05  # seconds: who asks whether a folder is held, holds it for a moment


def is_first_process() -> bool:
    """This is the only process of a training, or the first of many, which alone writes."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def only_one(folder: StrPath) -> Iterator[None]:
    """Hold a folder, which is made if it is missing; the system lets go of it when a process ends, however it does.

    Of many processes of one training the first holds it.

    Raises ValueError if another process, or another part of this one, holds it.
    """
    if not is_first_process():
        yield
        return
    path = Path(folder) / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        try:
            _hold_soon(file)
        except (BlockingIOError, PermissionError) as error:
            raise ValueError(
                f"another training runs in '{folder}': wait for its end, or choose another train.output_dir"
            ) from error
        except OSError as error:  # some network folders know no locks, and training in them is allowed
            logger.warning("'%s' cannot be locked (%s): see to it that no other training uses it", folder, error)
        yield


def is_held(folder: StrPath) -> bool:
    """A living process trains in the folder; true as well where nobody can tell."""
    path = Path(folder) / NAME
    if not path.is_file():
        return True
    try:
        with path.open("rb") as file:
            _hold(file, shared=True)
    except OSError:  # held; or without a lock, or in a folder that knows none
        return True
    return False


def _hold_soon(file: IO[Any]) -> None:
    for _ in range(TRIES - 1):
        try:
            return _hold(file)
        except (BlockingIOError, PermissionError):
            time.sleep(PAUSE)
    return _hold(file)


def _hold(file: IO[Any], *, shared: bool = False) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
