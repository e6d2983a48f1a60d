"""One training at a time in a folder, whoever starts it."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..files import StrPath

logger = logging.getLogger("i2v_core.training")


@contextmanager
def only_one(folder: StrPath) -> Iterator[None]:
    """Hold a folder, which is made if it is missing; the system lets go of it when a process ends, however it does.

    Raises ValueError if another process, or another part of this one, holds it.
    """
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        try:
            _hold(file)
        except (BlockingIOError, PermissionError) as error:
            raise ValueError(
                f"another training runs in '{folder}': wait for its end, or choose another train.output_dir"
            ) from error
        except OSError as error:  # some network folders know no locks, and training in them is allowed
            logger.warning("'%s' cannot be locked (%s): see to it that no other training uses it", folder, error)
        yield


def _hold(file: TextIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
