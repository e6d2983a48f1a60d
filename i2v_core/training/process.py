"""The `train` command as a process of its own, for programs that go on while it runs."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from .command import CANCELED
from .stop import TrainingCanceled

ROOT = Path(__file__).resolve().parents[2]
INTERVAL = 0.25  # seconds between two looks
PATIENCE = 600.0  # seconds for the present step and its checkpoint, after which a training is killed
# Where Python takes no paths from its environment, as in ComfyUI's portable version, the same command in other words.
ISOLATED = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('i2v_core', run_name='__main__')"


def train_apart(
    config: Path, log: Path, watch: Callable[[], None], *, dry_run: bool = False, isolated: bool | None = None
) -> str:
    """Run `python -m i2v_core train CONFIG` with this Python to its end; return what it printed: the file, or the plan.

    The process never outlives this one: it ends, with a checkpoint, as soon as its standard input does.

    Args:
        log: gets, at its end, what the command tells on the way.
        watch: called four times a second; what it raises ends the training with a checkpoint, and is raised again.
        isolated: whether this Python takes no paths from the environment; None finds out.

    Raises:
        ValueError: the training failed; its own sentence.
        TrainingCanceled: somebody else ended it.
    """
    arguments = [*_python(bool(sys.flags.ignore_environment) if isolated is None else isolated), "train", str(config)]
    arguments += ["--end-with-input", *(["--dry-run"] if dry_run else [])]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed, log.open("a+", encoding="utf-8") as told:
        start = told.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=printed, stderr=told, cwd=ROOT, env=environment
        )
        try:
            while process.poll() is None:
                watch()
                time.sleep(INTERVAL)
        finally:
            _end(process)
        _check(process.returncode, _from(told, start))
        return _from(printed, 0).strip()


def _python(isolated: bool) -> Sequence[str]:
    return [sys.executable, "-c", ISOLATED, str(ROOT)] if isolated else [sys.executable, "-m", "i2v_core"]


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
    sentence = (errors or lines or ["it said nothing"])[-1]
    if status == CANCELED:
        raise TrainingCanceled(sentence)
    raise ValueError(sentence if errors else f"The training ended with status {status}: {sentence}")
