"""Names of temporary files that tell their owner, so that what a killed process left behind is found and removed."""

import hashlib
import os
import re
import secrets
import shutil
import socket
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

NAME = re.compile(r"\.i2v-(?:([0-9a-f]{8})-(\d{1,10})-(\d{1,20})-)?[0-9a-f]{12}\.tmp")
ABANDONED = 24 * 3600  # seconds without a change, after which a file of an owner who cannot be asked is nobody's
SWEEP_AGAIN = 60  # seconds; a folder of results may hold many files

_swept: dict[Path, float] = {}


def temporary_name(folder: Path) -> Path:
    """A new hidden name in a folder: `.i2v-MACHINE-PROCESS-START-RANDOM.tmp`."""
    return folder / f".i2v-{_machine()}-{os.getpid()}-{_start(os.getpid()) or 0}-{secrets.token_hex(6)}.tmp"


def remove_stale(folder: Path) -> None:
    """Remove temporary files and folders of ours that no living process owns; looks once a minute at most.

    A process of another machine or container, or any on Windows, cannot be asked: its files go after a day without a
    change. What cannot be removed stays.
    """
    now = time.monotonic()
    if now - _swept.get(folder, -SWEEP_AGAIN) < SWEEP_AGAIN:
        return
    _swept[folder] = now
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (found := NAME.fullmatch(entry.name)) and _is_stale(entry, found):
                _remove(entry)


def _is_stale(entry: os.DirEntry[str], name: re.Match[str]) -> bool:
    machine, process, start = name.groups()
    alive = _is_alive(int(process), start) if machine == _machine() else None
    if alive is not None:
        return not alive
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED
    except OSError:
        return False


def _remove(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        with suppress(OSError):
            Path(entry.path).unlink()


def _is_alive(process: int, start: str) -> bool | None:
    """True while that very process runs, False once it has ended; None where it cannot be asked without harm."""
    if sys.platform == "linux":
        return _start(process) == start
    if sys.platform == "win32":
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _start(process: int) -> str | None:
    """When a process began, in ticks since the machine did; None if there is none, or where nobody tells."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()  # a program's name may hold blanks
    return None if state in "ZX" else fields[18]


@cache
def _machine() -> str:
    """Eight letters for this machine, and this container of it: where the numbers of processes mean the same."""
    told = [socket.gethostname()]
    with suppress(OSError):
        told.append(Path("/etc/machine-id").read_text(encoding="ascii", errors="replace"))
    with suppress(OSError):
        told.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256(" ".join(told).encode()).hexdigest()[:8]
