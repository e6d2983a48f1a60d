"""Atomic writing: a file appears under its name complete, or not at all."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .temporary import remove_stale, temporary_name

StrPath = str | os.PathLike[str]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def atomic_path(path: StrPath) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; success renames it to `path`, an exception deletes it.

    The content is on the disk (fsync) before the rename: a power cut leaves the old file or the new one. An
    existing file is replaced. What a killed process of ours left in the folder is removed.

    Raises:
        FileNotFoundError, NotADirectoryError, PermissionError, OSError: the folder is missing, is no folder,
            is not writable, or its disk is full. The sentence names the folder.
    """
    target = Path(path).absolute()
    remove_stale(target.parent)
    # A name of our own instead of tempfile's: mkstemp makes files that only their owner may read.
    temporary = temporary_name(target.parent)
    try:
        with _explained(target):
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode
        with _explained(target, only=_FULL):
            yield temporary
        with _explained(target):
            # Some writers put a file of their own in this place, which only its owner may read.
            temporary.chmod(stat.S_IMODE(mode))
            _sync(temporary)
            temporary.replace(target)
        with suppress(OSError):
            # Makes the new name itself durable; Windows and some network mounts cannot.
            _sync(target.parent)
    finally:
        # Only the name above is ever deleted; after the rename it no longer exists.
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(path: StrPath) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; success renames it to `path`, an exception deletes it with all in it.

    Raises:
        FileExistsError: `path` exists; folders are never replaced.
        FileNotFoundError, NotADirectoryError, PermissionError, OSError: as `atomic_path`.
    """
    target = Path(path).absolute()
    if target.exists():
        raise FileExistsError(f"'{target}' exists already. Choose another name for the folder.")
    remove_stale(target.parent)
    temporary = temporary_name(target.parent)
    try:
        with _explained(target):
            temporary.mkdir()
        with _explained(target, only=_FULL):
            yield temporary
        with _explained(target):
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _explained(target: Path, only: tuple[int, ...] = ()) -> Iterator[None]:
    """Turn a system error (one of `only`, or any) into a sentence that names the folder and what to do."""
    try:
        yield
    except OSError as error:
        if only and error.errno not in only:
            raise
        raise _explain(error, target) from error


def _explain(error: OSError, target: Path) -> OSError:
    folder, wanted = target.parent, f"Cannot write '{target.name}'"
    if error.errno in _FULL:
        return OSError(
            f"{wanted}: the disk of the folder '{folder}' is full. Free some space or choose another folder."
        )
    if error.errno in _FORBIDDEN:
        return PermissionError(f"{wanted}: the folder '{folder}' is not writable. Change its rights or choose another.")
    if error.errno == errno.ENOENT:
        return FileNotFoundError(f"{wanted}: the folder '{folder}' does not exist. Create it or choose another.")
    if error.errno == errno.ENOTDIR:
        return NotADirectoryError(f"{wanted}: '{folder}' is not a folder. Choose a folder.")
    return OSError(f"{wanted} in the folder '{folder}': {error.strerror}. Choose another folder or name.")


def _sync(path: Path) -> None:
    # Windows flushes only handles that may write; a folder opens only for reading.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
