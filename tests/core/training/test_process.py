"""A training as a process: it ends with who started it, fails in one sentence, and is alone in its folder."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from i2v_core.training.checkpoint_files import checkpoints
from i2v_core.training.command import out_of_memory
from i2v_core.training.config_file import write_config
from i2v_core.training.lock import only_one
from i2v_core.training.log import Progress, ProgressFile, read_progress, words_of_end
from i2v_core.training.process import ROOT, START, environment, train_in_subprocess
from i2v_core.training.short_config import NAMES, ShortConfig
from tests.core.training.tiny import tiny_config

DEMO = ROOT / "demo/i2v_demo.safetensors"


def wait_for_step(folder: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while (progress := read_progress(folder)) is None or progress.step < step:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with only_one(tmp_path / "run"):
        with pytest.raises(ValueError, match="another training runs in"), only_one(tmp_path / "run"):
            pass
        with only_one(tmp_path / "other"):
            pass
    with only_one(tmp_path / "run"):
        pass


def test_what_a_watcher_raises_ends_the_training_with_a_checkpoint(tmp_path: Path) -> None:
    config, folder = tiny_config(tmp_path, max_train_steps=100_000), tmp_path / "run"
    write_config(config, tmp_path / "train.toml")

    def watch() -> None:
        progress = read_progress(folder)
        if progress is not None and progress.step >= 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_in_subprocess(tmp_path / "train.toml", tmp_path / "train.log", watch)
    progress = read_progress(folder)
    assert progress is not None
    assert progress.state == "canceled"
    assert checkpoints(folder)[-1].name == f"checkpoint-{progress.step:06d}"


def test_a_training_ends_with_who_started_it(tmp_path: Path) -> None:
    config, folder = tiny_config(tmp_path, max_train_steps=100_000), tmp_path / "run"
    write_config(config, tmp_path / "train.toml")
    paths = [str(tmp_path / name) for name in ("train.toml", "train.log")]
    code = (
        "from pathlib import Path; from i2v_core.training.process import train_in_subprocess; "
        f"train_in_subprocess(*map(Path, {paths}), lambda: None)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_for_step(folder, 1)
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 60
    while not checkpoints(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_failure_is_the_command_s_own_sentence(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    missing = replace(config, model=replace(config.model, pretrained_model_name_or_path="nowhere.safetensors"))
    write_config(missing, tmp_path / "train.toml")
    with pytest.raises(ValueError, match=r"^[^\n]*nowhere\.safetensors[^\n]*$"):
        train_in_subprocess(tmp_path / "train.toml", tmp_path / "train.log", lambda: None)


def brief(folder: Path, method: str = "trip", data: Path | None = None) -> ShortConfig:
    return ShortConfig(method, DEMO, folder, "mine", data, 50, 2, 1e-3, preview_steps=100)


def test_methods_are_listed_once_by_the_paper_s_name() -> None:
    assert NAMES == ("look_back", "trip", "image_retention", "dynamicrafter")


def test_a_brief_takes_its_sizes_from_the_base(tmp_path: Path) -> None:
    config = brief(tmp_path, data=tmp_path).config()
    assert (config.data.frames, config.data.height, config.data.width) == (8, 64, 64)
    assert config.optim.param_groups == {"adapter": 1e-3, "unet": pytest.approx(1e-5)}
    assert config.validation.validation_steps == 50
    assert (config.train.mixed_precision, config.train.gradient_checkpointing) == ("bf16", True)
    assert brief(tmp_path).config("[data]\nsize = 32").data.size == 32


@pytest.mark.parametrize(
    ("further", "sentence"),
    [
        ("[train]\nmax_steps = 3", "there is no key 'train.max_steps'; did you mean 'train.max_train_steps'"),
        ("[train", "it is no valid TOML"),
        ("[method]\nname = 'video_base'", "'video_base' trains no adapter"),
        ("[train]\noutput_dir = 'elsewhere'", "leave them out"),
    ],
)
def test_further_settings_that_cannot_be_are_refused(tmp_path: Path, further: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        brief(tmp_path).config(further)


def test_a_child_starts_where_python_finds_no_modules_and_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert "HF_TOKEN" not in environment()
    assert environment()["CUDA_VISIBLE_DEVICES"] == "3"
    # As in ComfyUI's portable version, whose Python is isolated by a file beside it.
    child = [sys.executable, "-I", str(START), "train", "--help"]
    told = subprocess.run(child, env=environment(), capture_output=True, text=True, cwd="/", check=True)
    assert "--end-with-input" in told.stdout


def test_a_training_that_is_killed_ends_in_a_sentence(tmp_path: Path) -> None:
    write_config(tiny_config(tmp_path, max_train_steps=100_000), tmp_path / "train.toml")
    killed = list[int]()

    def children() -> set[int]:
        return set(map(int, Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()))

    others = children()  # of other tests, such as their server

    def watch() -> None:
        progress = read_progress(tmp_path / "run")
        if not killed and progress is not None and progress.step >= 1:
            (child,) = children() - others
            killed.append(child)
            os.kill(child, signal.SIGKILL)

    with pytest.raises(ValueError, match=r"^the system killed the training \(SIGKILL\)[^\n]*memory[^\n]*$"):
        train_in_subprocess(tmp_path / "train.toml", tmp_path / "train.log", watch)


def test_out_of_memory_names_the_keys_that_are_left(tmp_path: Path) -> None:
    config = brief(tmp_path).config("[train]\ngradient_checkpointing = false")
    assert out_of_memory(config).startswith(
        "the GPU's memory is full; lower it with train.gradient_checkpointing = true, train.train_batch_size = 1 (now"
    )
    least = brief(tmp_path).config('[train]\ntrain_batch_size = 1\n[optim]\noptimizer = "adamw8bit"')
    assert out_of_memory(least).endswith("lower it with fewer data.frames (now 8) or smaller ones (now 64)")


def test_a_killed_run_is_told_as_interrupted_and_a_living_one_is_not(tmp_path: Path) -> None:
    ProgressFile(tmp_path / "progress.json").write(Progress("look_back", "training", 7, 20))
    with only_one(tmp_path):
        assert read_progress(tmp_path) == Progress("look_back", "training", 7, 20)
    told = read_progress(tmp_path)  # the lock went with its process; nobody could write the end
    assert told is not None
    assert (told.state, told.message) == (
        "interrupted",
        "the training was interrupted at step 7 of 20: start it again to go on from its last checkpoint",
    )
    ProgressFile(tmp_path / "progress.json").write(Progress("look_back", "done", 20, 20))
    assert read_progress(tmp_path) == Progress("look_back", "done", 20, 20)


@pytest.mark.parametrize(
    "text",
    ["", "[" * 60_000, "9" * 5_000, '{"part": 1}', '{"part": "a", "state": "b", "step": 1, "steps": 1}', "[]",
     " " * 70_000, '{"part": "a", "state": "done", "step": "1", "steps": 1}'],
)  # fmt: skip
def test_a_broken_progress_file_tells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "progress.json").write_text(text)
    assert read_progress(tmp_path) is None


def test_the_end_of_a_process_in_words() -> None:
    assert words_of_end(-9) == (
        "the system killed the training (SIGKILL), most often because the memory was full; "
        "start it again to go on from its last checkpoint"
    )
    assert words_of_end(-11).startswith("the training was ended by SIGSEGV; start it again")
    assert words_of_end(3).startswith("the training ended without a word (status 3); start")
