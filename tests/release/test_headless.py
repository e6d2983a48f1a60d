"""`examples/headless.py` against a running server: it fetches the video, and says in a sentence what went wrong."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dev
from i2v_core.video import read_video
from tools.comfy_server import ComfyServer

SCRIPT = [sys.executable, str(dev.ROOT / "examples/headless.py"), str(dev.ROOT / "workflows/api/animate_image.json")]
PHOTOGRAPH = f"2.image=@{dev.ROOT / 'demo/images/chelsea.jpg'}"


def command(url: str, folder: Path, *settings: str) -> list[str]:
    values = (PHOTOGRAPH, "6.frames=4", "7.steps=2", *settings)
    return [*SCRIPT, "--server", url, "--folder", str(folder), *(part for value in values for part in ("--set", value))]


def run(url: str, folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(url, folder, *settings), check=False, capture_output=True, text=True, timeout=300)


def test_it_follows_the_run_and_fetches_the_video(host: ComfyServer, tmp_path: Path) -> None:
    ended = run(host.url, tmp_path, "4.text=the camera pans left")
    assert ended.returncode == 0, ended.stderr
    assert "KSampler: step 2 of 2" in ended.stderr
    assert "I2VCombineVideo" in ended.stderr
    assert read_video(ended.stdout.strip()).frames.shape == (4, 64, 64, 3)


def test_a_run_that_the_server_has_cached_brings_the_same_file(host: ComfyServer, tmp_path: Path) -> None:
    first, second = (run(host.url, tmp_path) for _ in range(2))
    assert second.returncode == 0, second.stderr
    assert first.stdout == second.stdout
    assert "KSampler: step" not in second.stderr


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("7.steps=0", "KSampler (node 7): Value 0 smaller than min of 1"),
        ("9.filename_prefix=../../escaped", "I2VCombineVideo (node 9)"),
        ("6.lenght=9", "--set 6.lenght=9: expected NODE.INPUT=VALUE"),
        ("2.image=@nowhere.jpg", "nowhere.jpg"),
    ],
    ids=["refused by the server", "fails in a node", "unknown input", "missing file"],
)
def test_what_went_wrong_is_one_sentence(host: ComfyServer, tmp_path: Path, setting: str, sentence: str) -> None:
    ended = run(host.url, tmp_path, setting)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    ended = run("http://127.0.0.1:9", tmp_path)
    assert ended.returncode == 1
    assert "No ComfyUI answers at http://127.0.0.1:9" in ended.stderr


def test_an_interrupt_stops_the_run_on_the_server(host: ComfyServer, tmp_path: Path) -> None:
    arguments = command(host.url, tmp_path, "7.steps=5000")
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "step" not in (line := process.stderr.readline()):
            assert line, "it ended before the first step"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    deadline = time.monotonic() + 60
    while (queue := host.get("/queue"))["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert queue["queue_running"] == []
