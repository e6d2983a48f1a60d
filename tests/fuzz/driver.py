"""Runs seeded cases in one process under a limit of memory, and reports what became of each.

`python -m tests.fuzz.driver KIND FIRST COUNT FOLDER` prints a report as JSON. A case ends well by success or by one of
our sentences: a `ValueError` or `FileNotFoundError` raised in the pack's own code, one line, not for want of memory.
What is written outside of FOLDER, takes longer than half a minute, or any other exception is a failure, named by its
number.
"""

import faulthandler
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

ROOT = Path(__file__).parents[2]
GROWTH = 1 << 30  # bytes of address space that all cases together may add
SECONDS = 30  # of the processor, for one case
SHOWN = 5


class Kind(Protocol):
    """A module of cases: `prepare` makes what all share, `run` makes and tries one, and says what it was."""

    def prepare(self, folder: Path) -> Any: ...
    def run(self, shared: Any, folder: Path, chance: random.Random) -> str: ...


@dataclass
class Report:
    """Outcomes by what was done to a file, and failures with their numbers."""

    cases: int = 0
    succeeded: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    slowest_case: int = -1
    grown_mb: float = 0.0
    sentences: int = 0
    failures: list[str] = field(default_factory=list)


class Refused(Exception):
    """Raised by `run` around a refusal: what was done, and the error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def fuzz(kind: str, cases: int, folder: Path, first: int = 0) -> Report:
    """Run cases in a child process; a child that dies is a failure that names the case."""
    inside, outside = folder / "inside", folder / "outside"
    inside.mkdir()
    outside.mkdir()
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HOME": str(outside), "TMPDIR": str(inside),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.fuzz.driver", kind, str(first), str(cases), str(inside)]
    done = subprocess.run(command, cwd=outside, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (inside / "case").read_text() if (inside / "case").exists() else "before the first"
        return Report(failures=[f"the process ended with {done.returncode} in case {last}: {done.stderr[-2000:]}"])
    report = Report(**json.loads(done.stdout.splitlines()[-1]))
    if left := sorted(path.name for path in outside.iterdir()):
        report.failures.append(f"written outside: {left}")
    return report


def summary(report: Report) -> str:
    """The counts in a line."""
    return (
        f"{report.cases} cases: {report.succeeded} succeeded, {report.refused} refused in {report.sentences} different "
        f"sentences, {len(report.failures)} failed; {report.seconds:.0f} s of the processor, at most "
        f"{report.slowest:.2f} for one (case {report.slowest_case}), {report.grown_mb:.0f} MB more at the end"
    )


def _forbid_writing_outside(folder: Path, written: list[str]) -> None:
    """Note every file that Python opens for writing, makes, renames or deletes elsewhere."""
    allowed = (str(folder), "/dev/")

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if mode is None else set(str(mode)) & set("wax+")
            paths = [path] if writes else []
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate"):
            # Names relative to an open folder are its temporary folder's.
            relative = event in ("os.remove", "os.rmdir") and arguments[1] != -1
            paths = [
                argument for argument in arguments if isinstance(argument, str | bytes | os.PathLike) and not relative
            ]
        elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"):
            paths = [f"a process: {arguments[0]}"]
        else:
            return
        for path in paths:
            if not isinstance(path, int) and not os.path.abspath(os.fsdecode(path)).startswith(allowed):  # noqa: PTH100
                written.append(f"{event} {os.fsdecode(path)!r}")

    sys.addaudithook(watch)


def _is_ours(error: Exception) -> bool:
    """Whether the pack raised it, in one line that a user can read."""
    text, innermost = str(error), traceback.extract_tb(error.__traceback__)[-1].filename
    own = innermost.startswith(str(ROOT / "i2v_core"))
    told = isinstance(error, ValueError | FileNotFoundError) and own
    return told and 10 < len(text) < 1500 and "\n" not in text and "allocate" not in text


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"longer than {SECONDS} s of the processor")


def _one(run: Callable[[], str], report: Report, written: list[str], sentences: Counter[str]) -> str:
    """Run a case; returns what is wrong with its end, or nothing."""
    try:
        run()
        report.succeeded += 1
    except Refused as refused:
        if not _is_ours(refused.error):
            return "".join(traceback.format_exception(refused.error))[-1500:]
        report.refused += 1
        sentences["".join(letter for letter in str(refused.error)[-60:] if not letter.isdigit())] += 1
    except BaseException:
        return traceback.format_exc()[-1500:]
    return f"written outside: {written}" if written else ""


def main(name: str, first: int, count: int, folder: Path) -> Report:
    """Run the cases in this process."""
    import resource

    kind: Kind = importlib.import_module(f"tests.fuzz.{name}_cases")  # type: ignore[assignment]
    shared = kind.prepare(folder)
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + GROWTH,) * 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGVTALRM, _interrupt)
    report, written, sentences = Report(), list[str](), Counter[str]()
    _forbid_writing_outside(folder, written)
    for number in range(first, first + count):
        (folder / "case").write_text(str(number))
        chance = random.Random(f"{name} {number}")
        began = time.process_time()
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        wrong = _one(lambda chance=chance: kind.run(shared, folder, chance), report, written, sentences)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        seconds = time.process_time() - began
        report.seconds += seconds
        if seconds > report.slowest:
            report.slowest, report.slowest_case = seconds, number
        if wrong and len(report.failures) < SHOWN:
            report.failures.append(f"case {number}: {wrong}")
        written.clear()
        report.cases += 1
    report.sentences = len(sentences)
    report.grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return report


if __name__ == "__main__":
    from tests.fuzz import driver  # under its name, which the cases import too

    faulthandler.enable()
    print(json.dumps(asdict(driver.main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))))  # noqa: T201
