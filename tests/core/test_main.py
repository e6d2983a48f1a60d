"""The command line on real files: train, inspect, convert, animate, story, measure and evaluate, one by one."""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from i2v_core import load_checkpoint
from i2v_core.__main__ import DEMO, main
from i2v_core.model.compiled import compile_blocks
from i2v_core.video import read_video
from tests.core.training.small import small_recipe
from tests.core.weights.small_files import write_small

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("commands")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["i2v_core", *map(str, arguments)])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    from i2v_core.training.config_file import read_config, write_config
    from i2v_core.training.methods import run

    write_config(small_recipe(folder), folder / "recipe.toml")
    return run(read_config(folder / "recipe.toml"))


def test_train_prints_the_checkpoint(call: Call, checkpoint: Path, folder: Path) -> None:
    code, out, _ = call("train", folder / "recipe.toml")
    assert code == 0
    assert Path(out.strip()) == checkpoint


def test_a_plan_is_told_and_single_keys_are_set(call: Call, checkpoint: Path, folder: Path) -> None:
    overrides = ("--set", f"train.output_dir={folder / 'other'}", "--set", "train.max_train_steps=7")
    code, out, _ = call("train", folder / "recipe.toml", *overrides, "--dry-run")
    assert code == 0
    assert "7 of 2 clips" in out and "trained: unet" in out
    assert not (folder / "other").exists()
    code, _, err = call("train", folder / "recipe.toml", "--set", "train.max_train_step=7")
    assert code == 1
    assert "there is no key 'train.max_train_step'; did you mean 'train.max_train_steps'?" in err


def test_inspect_names_what_an_adapter_holds(call: Call) -> None:
    code, out, _ = call("inspect", DEMO.parent / "adapters" / "look_back.safetensors")
    assert code == 0
    assert "adapter of look back" in out
    assert "of the base's U-Net" in out
    assert "i2v.base_sha256: " in out


def test_inspect_names_what_the_file_holds(call: Call, checkpoint: Path) -> None:
    code, out, _ = call("inspect", checkpoint)
    assert code == 0
    assert "demo (i2v names)" in out
    assert re.search(r"text encoder \(ours\) +\d+ ", out)
    assert re.search(r"CLIP image tower +none", out)
    assert "i2v.train_steps: 4" in out


def test_convert_keeps_the_weights(call: Call, checkpoint: Path, folder: Path) -> None:
    target = folder / "converted.safetensors"
    assert call("convert", checkpoint, target, "--dialect", "lvdm", "--dtype", "fp32")[0] == 0
    before, after = load_checkpoint(checkpoint), load_checkpoint(target)
    assert after.dialect == "lvdm"
    for name, tensor in before.unet.state_dict().items():
        torch.testing.assert_close(after.unet.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_public_file_is_described_and_converted(call: Call, folder: Path) -> None:
    source = write_small(folder, "tooncrafter", "full", name="renamed.bin", towers=False)
    target = folder / "toon.safetensors"
    code, told, _ = call("inspect", source)
    assert code == 0
    assert told.startswith("tooncrafter (lvdm names)")
    assert "left aside: 'alphas_cumprod'" in told
    code, out, _ = call("convert", source, target, "--dtype", "fp16")
    assert code == 0
    assert out.startswith(told)
    assert re.search(rf"written to {re.escape(str(target))}: \d+\.\d MB, fp16$", out.strip())
    code, out, _ = call("inspect", target)
    assert code == 0
    assert out.startswith("tooncrafter (i2v names)")
    assert "float16" in out and "float32" not in out.split("VideoUNetConfig")[0]
    assert "modelspec.resolution: 512x320" in out


def test_animate_then_measure(call: Call, checkpoint: Path, folder: Path) -> None:
    picture, video = folder / "picture.png", folder / "clip.mp4"
    Image.effect_noise((50, 40), 60).convert("RGB").save(picture)
    code, out, _ = call("animate", picture, "pan left", video, "--checkpoint", checkpoint, "--fps", "8")
    assert (code, Path(out.strip())) == (0, video)
    clip = read_video(video)
    assert clip.frames.shape == (3, 32, 32, 3)
    assert clip.fps == 8
    preview = folder / "preview.webp"
    code, out, _ = call("measure", video, "--image", picture, "--prompt", "pan left", "--preview", preview)
    with Image.open(preview) as shown:
        assert (shown.n_frames, shown.size) == (3, (768, 384))  # type: ignore[attr-defined]
    assert code == 0
    assert "frames: 3 of 32x32 pixels at 8 per second" in out
    assert "dB PSNR" in out


def test_a_compiled_network_makes_the_same_clip(
    call: Call, checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, videos = folder / "compiled.png", (folder / "eager.mp4", folder / "compiled.mp4")
    Image.effect_noise((50, 40), 60).convert("RGB").save(picture)
    # The default backend takes minutes; `test_compiled.py` has it.
    monkeypatch.setattr(
        "i2v_core.model.compiled.compile_blocks", partial(compile_blocks, backend="eager", fullgraph=True)
    )
    for video, options in zip(videos, ((), ("--compile",)), strict=True):
        code, _, err = call("animate", picture, "pan left", video, "--checkpoint", checkpoint, *options)
        assert code == 0
        assert ("the first step compiles" in err) == bool(options)
    assert torch.equal(*(read_video(video).frames for video in videos))


def test_evaluate_reports_every_clip(call: Call, checkpoint: Path, folder: Path) -> None:
    report_file = folder / "report.json"
    code, out, err = call("evaluate", "--checkpoint", checkpoint, "--clips", "7", "--output", report_file)
    assert code == 0
    report = json.loads(report_file.read_text())
    assert report == json.loads(out)
    assert sum(sum(row.values()) for row in report["confusion"].values()) == 7
    assert len(report["psnr"]) == 3
    assert len(report["frozen_psnr"]) == 2
    assert 0 <= report["accuracy"] <= 1
    assert "7/7 clips" in err


@pytest.mark.parametrize("arguments", [("inspect", "absent.safetensors"), ("train", "absent.toml")])
def test_a_failure_is_one_sentence_on_stderr(call: Call, arguments: tuple[str, ...]) -> None:
    code, out, err = call(*arguments)
    assert code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert "absent" in err
    assert len(err.splitlines()) == 1


def test_story_writes_all_parts_and_tells_the_drift(call: Call, checkpoint: Path, folder: Path) -> None:
    picture, video, parts = folder / "first.png", folder / "story.mp4", folder / "story.json"
    Image.effect_noise((50, 40), 60).convert("RGB").save(picture)
    parts.write_text(json.dumps(["pan left", {"prompt": "zoom in", "frames": 4}]))
    code, out, err = call("story", parts, picture, video, "--checkpoint", checkpoint, "--color-match", "0.5")
    assert (code, Path(out.strip())) == (0, video)
    assert read_video(video).frames.shape == (3 + 3, 32, 32, 3)
    assert "part 2/2, step 2/2" in err
    assert "color drift at the end of each part" in err
