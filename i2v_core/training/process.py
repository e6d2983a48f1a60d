"""The `train` command as a process of its own, for programs that go on while it runs."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from .command import CANCELED
from .log import words_of_end
from .stop import TrainingCanceled

ROOT = Path(__file__).resolve().parents[2]
INTERVAL = 0.25  # seconds between two looks
PATIENCE = 600.0  # seconds for the present step and its checkpoint, after which a training is killed
START = Path(__file__).resolve().with_name("start.py")
# What a child needs to find its libraries, devices and temporary folder. Nothing else goes on, tokens above all.
PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "SYSTEMROOT", "SYSTEMDRIVE",
    "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PYTHONPATH", "PYTHONHOME",
    "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONWARNINGS", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV",
    "CONDA_PREFIX",
)  # fmt: skip
PASSED_ON_FAMILIES = (
    "LC_", "CUDA_", "NVIDIA_", "NCCL_", "HIP_", "HSA_", "ROCR_", "ROCM_", "AMD_", "PYTORCH_", "TORCH_", "OMP_", "MKL_",
    "KMP_", "OPENBLAS_", "ONEAPI_", "ZE_", "SYCL_", "XDG_CACHE_", "MPLCONFIG",
)  # fmt: skip


def train_in_subprocess(config: Path, log: Path, watch: Callable[[], None], *, dry_run: bool = False) -> str:
    """Run `python -m i2v_core train CONFIG` with this Python to its end; return what it printed: the file, or the plan.

    The process never outlives this one: it ends, with a checkpoint, as soon as its standard input does.

    Args:
        log: gets, at its end, what the command tells on the way.
        watch: called four times a second; what it raises ends the training with a checkpoint, and is raised again.

    Raises:
        ValueError: the training failed; its own sentence.
        TrainingCanceled: somebody else ended it.
    """
    # A file, not a module: in ComfyUI's portable version Python takes no paths from its environment.
    arguments = [str(Path(sys.executable).absolute()), str(START), "train", str(config.absolute()), "--end-with-input"]
    arguments += ["--dry-run"] if dry_run else []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed, log.open("a+", encoding="utf-8") as told:
        start = told.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=printed, stderr=told, cwd=ROOT, env=environment()
        )
        try:
            while process.poll() is None:
                watch()
                time.sleep(INTERVAL)
        finally:
            _end(process)
        _check(process.returncode, _from(told, start))
        return _from(printed, 0).strip()


def environment() -> dict[str, str]:
    """The variables of this process that a training gets: those of `PASSED_ON` and its families."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in PASSED_ON or name.upper().startswith(PASSED_ON_FAMILIES)
    }
    return {**kept, "PYTHONIOENCODING": "utf-8"}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a process end by itself, at most `PATIENCE` seconds long, and wait for it."""
    assert process.stdin is not None
    if os.name == "nt":  # has no SIGTERM that a process could answer
        process.stdin.close()
    else:
        process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdin.close()


def _from(file: IO[str], start: int) -> str:
    file.seek(start)
    return file.read()


def _check(status: int, told: str) -> None:
    if status == 0:
        return
    lines = [line for line in told.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if status == CANCELED:
        raise TrainingCanceled((errors or lines or ["The training was canceled."])[-1])
    raise ValueError(errors[-1] if errors else words_of_end(status))
