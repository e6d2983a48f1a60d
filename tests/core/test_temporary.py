"""What a killed process left is removed by the next write in its folder; what a living one writes is not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from i2v_core import temporary
from i2v_core.files import atomic_folder, atomic_path

# Without `i2v_core/__init__.py`, which would bring PyTorch along.
WRITER = """
import sys, types
pack = sys.modules["i2v_core"] = types.ModuleType("i2v_core")
pack.__path__ = [sys.argv[2]]
from i2v_core.files import atomic_folder, atomic_path
with atomic_path(sys.argv[1] + "/clip.mp4") as file, atomic_folder(sys.argv[1] + "/clip") as folder:
    file.write_bytes(b"half")
    (folder / "0001.png").write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def look_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "SWEEP_AGAIN", 0)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".i2v-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be asked there: see the next test")
def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), str(Path(temporary.__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdin is not None and writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    with atomic_path(tmp_path / "other") as file:
        file.touch()
    assert len(left(tmp_path)) == 2, "a living process keeps what it writes"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdin.close()
    writer.stdout.close()
    assert len(left(tmp_path)) == 2
    with atomic_folder(tmp_path / "another"):
        assert len(left(tmp_path)) == 1, "its own"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "other"]


def test_files_of_those_who_cannot_be_asked_go_after_a_day(tmp_path: Path) -> None:
    foreign, old = tmp_path / ".i2v-00000000-1-1-0123456789ab.tmp", tmp_path / ".i2v-0123456789ab.tmp"
    others = tmp_path / ".i2v-notes.tmp", tmp_path / ".i2v_cache"
    for path in (foreign, old, *others):
        path.touch()
    temporary.remove_stale(tmp_path)
    assert foreign.exists()
    assert old.exists()
    for path in (foreign, *others):
        os.utime(path, (time.time() - 2 * temporary.ABANDONED,) * 2)
    old.unlink()
    old.symlink_to(tmp_path)
    temporary.remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in (old, *others))


def test_a_later_process_of_the_same_number_is_another(tmp_path: Path) -> None:
    own = temporary.temporary_name(tmp_path)
    machine, process, start = own.name.split("-")[1:4]
    earlier = tmp_path / f".i2v-{machine}-{process}-{int(start) + 1}-0123456789ab.tmp"
    own.touch()
    earlier.touch()
    temporary.remove_stale(tmp_path)
    assert own.exists()
    assert earlier.exists() == (sys.platform != "linux")
