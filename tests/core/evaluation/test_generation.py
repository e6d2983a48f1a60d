"""A checkpoint and a protocol file: the clips it names are made once, with their truth, and the report follows."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import dev
from i2v_core import load_checkpoint
from i2v_core.__main__ import main
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.guidance import ScaleSchedule
from i2v_core.evaluation.generation import follow
from i2v_core.evaluation.protocol import GenerationProtocol, read_protocol
from i2v_core.metrics.pixels import psnr
from i2v_core.training.methods import run as train
from i2v_core.video import frames_to_clip, read_video, write_video
from i2v_core.weights import load_adapter
from tests.core.evaluation.small_clips import write_clips
from tests.core.training.small import small_recipe


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return train(small_recipe(folder))


def run(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Path, protocol: dict[str, object] | Path, output: Path, *more: object
) -> int:
    file = protocol if isinstance(protocol, Path) else output.parent / "protocol.json"
    if not isinstance(protocol, Path):
        file.write_text(json.dumps(protocol))
    given = ["--checkpoint", checkpoint, "--protocol", file, "--output", output, "--no-controls", *more]
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
    for name in ("psnr", "ssim", "image_consistency", "motion_amount"):
        if name in report["measures"]:
            then, now = (told["measures"][name]["rows"]["results"]["mean"] for told in (report, again))
            # x264 on several threads does not write the same file every time.
            assert now == pytest.approx(then, rel=0.01), "a clip depends on its seed only"


def test_a_folder_of_pictures_needs_no_truth(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.effect_noise((50, 40), 60).convert("RGB").save(pictures / "noise.png")
    protocol = {"folder": str(pictures), "steps": 2, "frames": 2}
    assert run(monkeypatch, checkpoint, protocol, tmp_path / "evaluation") == 1
    assert "has no caption: expected" in capsys.readouterr().err
    (pictures / "noise.txt").write_bytes("ein Öltanker".encode("cp1252"))
    assert run(monkeypatch, checkpoint, protocol, tmp_path / "evaluation") == 1
    assert "'noise': has no readable caption" in capsys.readouterr().err
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


def tiny(**settings: object) -> list[str]:
    """What makes a paper's protocol one of seconds."""
    settings = {"frames": 3, "height": 32, "width": 32, "steps": 1} | settings
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def test_classes_of_a_published_protocol_become_prompts_and_categories(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DTDB's layout: a folder for each class; what is too short is left out and told."""
    truth = write_clips(tmp_path / "clips", count=3)["truth"]
    for place, clip in (("waterfall/a", 0), ("fire/a", 1), ("fire/b", 2)):
        (tmp_path / "dtdb" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(truth / f"clip{clip}.mp4", tmp_path / "dtdb" / f"{place}.mp4")
    write_video(tmp_path / "dtdb/fire/short.mp4", torch.zeros(1, 32, 32, 3), 8)
    output = tmp_path / "evaluation"
    more = tiny(folder=tmp_path / "dtdb", clips=4, fps=8)
    assert run(monkeypatch, checkpoint, dev.ROOT / "configs/protocols/dtdb.toml", output, *more) == 0
    report = json.loads((output / "report.json").read_text())
    assert {name: told["items"] for name, told in report["categories"].items()} == {
        "fire": 2, "waterfall": 1, "mean of the categories": 3
    }  # fmt: skip
    assert (output / "references/fire-a.txt").read_text() == "fire"
    left_out = json.loads((output / "left_out.json").read_text())
    assert left_out == {"fire-short": "has 1 frames of the 3 that are asked for"}
    given, first = (
        frames_to_clip(read_video(folder / f"{name}.mp4").frames)[:, 0]
        for folder, name in ((output / "references", "fire-a"), (truth, "clip1"))
    )
    assert psnr(given, first) > 34, "the first frame is the given image"


@pytest.mark.parametrize("name", ["webvid", "dtdb", "msrvtt", "ucf101"])
def test_published_protocols_can_be_read(name: str) -> None:
    protocol = read_protocol(dev.ROOT / f"configs/protocols/{name}.toml", ["image_scale=linear:4:1", "text_scale = 2"])
    assert (protocol.frames, protocol.height, protocol.width, protocol.steps) == (16, 256, 256, 50)
    config = protocol.generation(7)
    assert config.seed == 7
    assert config.text_scale == 2
    assert config.image_scale == ScaleSchedule(4, "linear", 1)


def test_clips_without_image_or_text_are_those_of_the_scales(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DreamVideo, Figure 6: without the image is an image scale of 0, whatever the picture shows."""
    base = {"clips": 1, "steps": 2}

    def made(name: str, **settings: object) -> torch.Tensor:
        assert run(monkeypatch, checkpoint, base | settings, tmp_path / name) == 0
        return read_video(tmp_path / name / "results/00000-left.mp4").frames

    both = made("both", guidance=2.0)
    without_image = made("without_image", guidance=2.0, without_image=True)
    torch.testing.assert_close(without_image, made("scale", text_scale=2.0, image_scale=0.0))
    assert not torch.equal(without_image, both)
    blind = {"guidance": 2.0, "without_image": True, "text": "none"}
    other = made("other", **blind, photographs=["skimage:coffee.png"])
    torch.testing.assert_close(made("blind", **blind), other)
    pictures = [Image.open(tmp_path / name / "references/00000-left.png").tobytes() for name in ("blind", "other")]
    assert pictures[0] != pictures[1]
    assert (tmp_path / "both/references/00000-left.txt").read_text()
    assert not torch.equal(made("without_text", guidance=2.0, text="none"), both)
    assert (tmp_path / "without_text/references/00000-left.txt").read_text() == ""


def test_linear_fusion_of_weight_one_shows_the_image_alone(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TRIP, equation 9, on a base without an adapter: the reference stands for the image in every frame."""
    settings = {"clips": 1, "steps": 2, "fusion": "linear", "first_lambda": 1.0, "last_lambda": 1.0}
    assert run(monkeypatch, checkpoint, settings, tmp_path / "linear") == 0
    frames = read_video(tmp_path / "linear/results/00000-left.mp4").frames.int()
    assert (frames - frames[:1]).abs().max() <= 2, "levels, through the file"
    assert run(monkeypatch, checkpoint, {"clips": 1, "fusion": "learned"}, tmp_path / "learned") == 1
    assert "needs an adapter of TRIP" in capsys.readouterr().err
    assert run(monkeypatch, checkpoint, {"clips": 1, "initialization": "hybrid"}, tmp_path / "hybrid") == 1
    assert "initialization belongs to look-back" in capsys.readouterr().err


def test_adapters_initialization_and_pieces_come_from_the_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the demo's files: look-back on an image model begins with the given image, clean or noised."""
    demo, adapters = dev.ROOT / "demo", [str(dev.ROOT / "demo/adapters/look_back_demo.safetensors")]
    base = {"clips": 1, "frames": 4, "steps": 2, "adapters": adapters}
    made = []
    for name, more in (("whole", {}), ("pieces", {"frames_at_once": 2, "initialization": "hybrid"})):
        assert run(monkeypatch, demo / "i2v_demo_image.safetensors", base | more, tmp_path / name) == 0
        made.append(read_video(tmp_path / name / "results/00000-left.mp4").frames.float())
        told = json.loads((tmp_path / name / "protocol.json").read_text())
        assert "look_back_demo.safetensors" in told["made_by"]
    whole, pieces = made
    assert whole.shape == pieces.shape
    assert (whole[0] - pieces[0]).abs().mean() < 3, "levels, through the file"
    base_file, adapter = load_checkpoint(demo / "i2v_demo_image.safetensors"), load_adapter(adapters[0])
    denoiser = Denoiser.adapted(base_file.unet, base_file.preset, [adapter])
    for name in ("add_noise", "inversion"):
        assert follow(denoiser, GenerationProtocol(initialization=name)).initialization.name == name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"without_image": True, "image_scale": 1.0}, "no image to guide by"),
        ({"first_lambda": 0.5}, 'lambdas belong to fusion = "linear"'),
        ({"text_scale": "steep:1"}, "'steep:1' is no scale such as"),
        ({"eta": 2}, "eta must be from 0 to 1"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        GenerationProtocol(**settings)  # type: ignore[arg-type]


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
