"""A checkpoint and a protocol file: the clips it names are made once, with their truth, and the report follows."""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from i2v_core.__main__ import main
from i2v_core.evaluation.generation import read_protocol
from i2v_core.metrics.pixels import psnr
from i2v_core.training.methods import run as train
from i2v_core.video import frames_to_clip, read_video
from tests.core.training.small import small_recipe


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return train(small_recipe(folder))


def run(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, protocol: dict[str, object], output: Path) -> int:
    file = output.parent / "protocol.json"
    file.write_text(json.dumps(protocol))
    given = ["--checkpoint", checkpoint, "--protocol", file, "--output", output, "--no-controls"]
    monkeypatch.setattr(sys, "argv", ["i2v_core", "evaluate", *map(str, given)])
    return main()


def test_moving_crops_are_made_measured_and_continued(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, protocol = tmp_path / "evaluation", {"clips": 3, "steps": 2}
    assert run(monkeypatch, checkpoint, protocol, output) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(output / "report.html")
    assert printed.err.count("made ") == printed.err.count("measured ") == 3
    report = json.loads((output / "report.json").read_text())
    assert report["items"] == 3
    assert report["measures"]["psnr"]["rows"]["results"]["count"] == 3
    assert report["measures"]["motion_follow"]["rows"]["results"]["count"] == 3, "the captions came along"
    truth, made = (frames_to_clip(read_video(output / f / "00000-left.mp4").frames) for f in ("references", "results"))
    assert truth.shape == made.shape == (3, 3, 32, 32)
    (output / "results" / "00001-right.mp4").unlink()
    before = (output / "results" / "00000-left.mp4").stat().st_mtime_ns
    assert run(monkeypatch, checkpoint, protocol, output) == 0
    errors = capsys.readouterr().err
    assert errors.count("made 00001-right (1/1)") == errors.count("measured 00001-right") == 1
    assert (output / "results" / "00000-left.mp4").stat().st_mtime_ns == before
    again = json.loads((output / "report.json").read_text())
    assert again["measures"] == report["measures"], "a clip depends on its seed only"


def test_a_folder_of_pictures_needs_no_truth(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.effect_noise((50, 40), 60).convert("RGB").save(pictures / "noise.png")
    protocol = {"folder": str(pictures), "steps": 2, "frames": 2}
    assert run(monkeypatch, checkpoint, protocol, tmp_path / "evaluation") == 1
    assert "has no caption: expected" in capsys.readouterr().err
    (pictures / "noise.txt").write_text("zoom in\n")
    assert run(monkeypatch, checkpoint, protocol, tmp_path / "evaluation") == 0
    report = json.loads((tmp_path / "evaluation" / "report.json").read_text())
    assert "first_frame_psnr" in report["measures"]
    assert "psnr" not in report["measures"]
    with Image.open(tmp_path / "evaluation" / "references" / "noise.png") as given:
        assert given.size == (32, 32)


def test_other_protocols_and_weights_do_not_mix(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "evaluation"
    assert run(monkeypatch, checkpoint, {"clips": 1, "steps": 1}, output) == 0
    assert run(monkeypatch, checkpoint, {"clips": 1, "steps": 2}, output) == 1
    assert "clips of another protocol or checkpoint" in capsys.readouterr().err
    assert run(monkeypatch, checkpoint, {"clip": 1}, tmp_path / "other") == 1
    assert "there is no key 'clip'; did you mean 'clips'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        ("[" * 50_000, "nested more than 64 deep"),
        ("3", "the whole should be a table"),
        ('{"seed": 1' + "0" * 30 + "}", "beyond -2.63"),
        ('{"fps": 0}', "fps must be from 0.001"),
        ('{"fps": NaN}', "only finite numbers"),
        ('{"clips": "many"}', "clips should be a whole number, got 'many'"),
        ('{"photographs": [3]}', r"photographs\[0\] should be a text, got 3"),
        ('{"photographs": []}', "photographs must name one or more"),
        ('{"seed": -1}', "seed must be from 0"),
    ],
)
def test_a_protocol_that_cannot_be_followed_is_named(protocol: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "protocol.json").write_text(protocol)
    with pytest.raises(ValueError, match=f"protocol.json'.* {sentence}"):
        read_protocol(tmp_path / "protocol.json")


def test_truth_is_written_as_results_are(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides pass through the same encoder, at a quality that hardly costs."""
    from tests.core.evaluation.small_clips import moving_crops

    assert run(monkeypatch, checkpoint, {"clips": 1, "steps": 1}, tmp_path / "evaluation") == 0
    written = frames_to_clip(read_video(tmp_path / "evaluation/references/00000-left.mp4").frames)
    rendered = moving_crops(32, 3).clip(0, "left").pixels
    assert psnr(written.transpose(0, 1), rendered.transpose(0, 1)).min() > 34
    assert torch.isfinite(written).all()
