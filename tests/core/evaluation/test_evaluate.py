"""The command on real files: one process or two, killed and continued, with bad files told and survived."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import dev
from i2v_core.__main__ import main
from i2v_core.metrics.pixels import psnr
from i2v_core.video import frames_to_clip, read_video
from tests.core.evaluation.small_clips import write_clips
from tests.core.metrics.features.small_clip import open_clip_file

COMMAND = ["-m", "i2v_core", "evaluate"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_clips(tmp_path_factory.mktemp("clips"))


def arguments(clips: dict[str, Path], output: Path, *more: str | Path) -> list[str]:
    folders = [clips["good"], clips["bad"], "--references", clips["truth"]]
    return [*map(str, [*folders, "--captions", clips["truth"].parent / "captions.json", "--output", output, *more])]


def run(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["i2v_core", "evaluate", *given])
    return main()


def numbers(output: Path) -> dict[str, Any]:
    report = json.loads((output / "report.json").read_text())
    return {key: report[key] for key in ("measures", "curves", "sets", "errors", "items")}


@pytest.fixture(scope="module")
def alone(clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one process, CLIP included."""
    output = tmp_path_factory.mktemp("alone") / "evaluation"
    weights = open_clip_file(output.parent / "ViT-small.pt", openai=True)
    command = [sys.executable, *COMMAND, *arguments(clips, output, "--clip", weights)]
    subprocess.run(command, check=True, cwd=dev.ROOT, env=ENVIRONMENT, capture_output=True)
    return output


def test_numbers_are_those_of_the_files(clips: dict[str, Path], alone: Path) -> None:
    measures = numbers(alone)["measures"]
    expected = []
    for i in range(3):
        made, truth = (frames_to_clip(read_video(clips[f] / f"clip{i}.mp4").frames) for f in ("bad", "truth"))
        expected.append(psnr(made.transpose(0, 1), truth.transpose(0, 1)).mean())
    assert measures["psnr"]["rows"]["bad"]["mean"] == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    assert measures["psnr"]["rows"]["truth"]["mean"] == 100
    assert measures["psnr"]["differences"]["bad"]["high"] < 0, "worse in every clip"
    assert measures["isim_average"]["rows"]["frozen"]["mean"] == pytest.approx(1, abs=1e-3)
    assert measures["psnr"]["rows"]["good"]["count"] == 3


def test_what_needs_absent_weights_is_told_once(alone: Path) -> None:
    told = {entry["measures"][0]: entry["sentence"] for entry in numbers(alone)["errors"]}
    for kind in ("i3d", "c3d", "inception"):
        assert f"--{kind}" in told[kind]
    assert "isim" not in told
    assert "There are no features of i3d" in numbers(alone)["sets"]["fvd"]["good"]["error"]


def test_two_processes_give_the_numbers_of_one(clips: dict[str, Path], alone: Path, tmp_path: Path) -> None:
    weights = alone.parent / "ViT-small.pt"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, *COMMAND, *arguments(clips, tmp_path / "two", "--clip", weights)]
    done = subprocess.run(command, check=False, cwd=dev.ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "two" / "report.html")], "one process speaks"
    assert sorted(done.stderr.count(f"measured clip{i} ") for i in range(3)) == [1, 1, 1]
    assert "(1/1)" in done.stderr, "the work was shared"
    assert numbers(tmp_path / "two") == numbers(alone)


def test_a_killed_run_continues_without_losing_or_repeating(
    clips: dict[str, Path], alone: Path, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    command = [sys.executable, *COMMAND, *arguments(clips, output, "--clip", alone.parent / "ViT-small.pt")]
    process = subprocess.Popen(command, cwd=dev.ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    first = process.stderr.readline()
    process.kill()
    process.wait()
    process.stderr.close()
    assert "measured clip0" in first
    finished = {path.name: path.stat().st_mtime_ns for path in (output / "items").glob("*.json")}
    assert 0 < len(finished) < 3
    again = subprocess.run(command, check=True, cwd=dev.ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert f"({3 - len(finished)}/{3 - len(finished)})" in again.stderr
    for name, when in finished.items():
        assert (output / "items" / name).stat().st_mtime_ns == when, "a finished item is not measured again"
        assert f"measured {Path(name).stem} " not in again.stderr
    assert numbers(output) == numbers(alone)


def test_a_changed_file_or_setting_is_measured_again(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, output = tmp_path / "results", tmp_path / "evaluation"
    shutil.copytree(clips["good"], good)
    given = [str(good), "--output", str(output), "--no-controls"]
    for change, measured in (("", 3), ("", 0), ("touch", 1), ("--stride 2", 3)):
        if change == "touch":
            stamp = time.time() + 5
            os.utime(good / "clip1.mp4", (stamp, stamp))
        assert run(monkeypatch, [*given, *change.removeprefix("touch").split()]) == 0
        assert capsys.readouterr().err.count("measured") == measured


def test_bad_files_are_told_and_the_others_measured(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, truth, output = tmp_path / "results", tmp_path / "truth", tmp_path / "evaluation"
    shutil.copytree(clips["good"], good)
    shutil.copytree(clips["truth"], truth)
    (good / "clip0.mp4").write_bytes(b"not a video")
    short = write_clips(tmp_path / "short", count=2, frames=4)
    shutil.copy(short["truth"] / "clip1.mp4", truth / "clip1.mp4")
    (truth / "clip2.png").write_bytes(b"not a picture")
    for name in ("clip1", "license"):
        (truth / f"{name}.txt").write_bytes("ein Öltanker".encode("cp1252"))
    assert run(monkeypatch, [str(good), "--references", str(truth), "--output", str(output)]) == 0
    report = json.loads((output / "report.json").read_text())
    sentences = {entry["sentence"]: entry for entry in report["errors"]}
    unreadable = next(told for sentence, told in sentences.items() if "cannot be read as a video" in sentence)
    assert unreadable["clips"] == ["clip0 (results)"]
    lengths = next(told for sentence, told in sentences.items() if "clip and its ground truth" in sentence)
    assert {"psnr", "ssim"} <= set(lengths["measures"])
    assert any("needs a caption" in sentence for sentence in sentences)
    assert any("given image cannot be used" in sentence and "clip2.png" in sentence for sentence in sentences)
    [(caption, told)] = [found for found in sentences.items() if "caption cannot be used" in found[0]]
    assert "clip1.txt' is no text in UTF-8 (in line 1)" in caption
    assert "clip1 (results)" in told["clips"]
    assert report["networks"] == {"flow": "scikit-image iLK"}, "which flow stands beside the numbers"
    assert report["measures"]["psnr"]["rows"]["results"]["count"] == 1
    assert report["measures"]["motion_amount"]["rows"]["results"]["count"] == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--output", ""], "Give --output"),
        (["--references", "absent"], "no folder 'absent'"),
        (["--height", "32"], "both height and width"),
        (["--captions", "captions.json"], "no folder"),
    ],
)
def test_arguments_that_do_not_work_are_one_sentence(
    clips: dict[str, Path], tmp_path: Path, change: list[str], sentence: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = [str(clips["good"]), "--output", str(tmp_path / "evaluation"), *change]
    assert run(monkeypatch, given) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_folders_must_pair_and_must_not_be_called_like_a_control(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = tmp_path / "fewer"
    shutil.copytree(clips["bad"], fewer)
    (fewer / "clip2.mp4").unlink()
    assert run(monkeypatch, [str(clips["good"]), str(fewer), "--output", str(tmp_path / "out")]) == 1
    assert "lacks 1, such as 'clip2'" in capsys.readouterr().err
    assert run(monkeypatch, [str(clips["truth"]), "--output", str(tmp_path / "out")]) == 1
    assert "'truth' is the name of a control row" in capsys.readouterr().err
