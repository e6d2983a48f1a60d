"""A run follows from its configuration: killed, canceled or out of disk, it goes on to where it would have come."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from i2v_core.training.checkpoint_files import checkpoints
from i2v_core.training.config import EmaConfig, LoggingConfig, TrainingConfig, ValidationConfig
from i2v_core.training.config_file import write_config
from i2v_core.training.log import Progress, read_log
from i2v_core.training.methods import plan_run, run
from i2v_core.training.optimization import rate_factor
from i2v_core.training.stop import TrainingCanceled
from i2v_core.video import read_video
from tests.core.training.tiny import tiny_config

ROOT = Path(__file__).parents[3]
STEPS = 12


def losses_of(folder: Path) -> list[float]:
    return [row["loss"] for row in read_log(folder)]


def same(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingConfig, Path]:
    """An uninterrupted run."""
    config = tiny_config(tmp_path_factory.mktemp("whole"), max_train_steps=STEPS, checkpointing_steps=4)
    return config, run(config)


def elsewhere(config: TrainingConfig, folder: Path, **train: object) -> TrainingConfig:
    return replace(config, train=replace(config.train, output_dir=str(folder), **train))  # type: ignore[arg-type]


def command(path: Path) -> list[str]:
    return [sys.executable, "-m", "i2v_core", "train", str(path)]


def started(config: TrainingConfig, folder: Path) -> subprocess.Popen[str]:
    """The training in a process of its own, seen at step 6 or later."""
    path, log = folder / "config.toml", Path(config.train.output_dir) / "log.jsonl"
    write_config(config, path)
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command(path), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 600
    while not (log.exists() and len(log.read_text().splitlines()) >= 6):
        assert process.poll() is None and time.monotonic() < until, process.communicate()[1]
        time.sleep(0.01)
    return process


def test_killed_and_resumed_it_ends_bit_by_bit_where_an_uninterrupted_run_does(
    whole_run: tuple[TrainingConfig, Path], tmp_path: Path
) -> None:
    config = elsewhere(whole_run[0], tmp_path / "run")
    process = started(config, tmp_path)
    process.kill()
    process.communicate()
    assert checkpoints(tmp_path / "run"), "it was killed behind a checkpoint"
    seen: list[Progress] = []
    result = run(config, seen.append)
    # On a busy machine it may have come to its end before the kill came to it.
    assert all(4 < progress.step <= STEPS for progress in seen)
    assert losses_of(tmp_path / "run") == losses_of(whole_run[1].parent)
    assert same(result, whole_run[1])
    for name in (f"look_back-{STEPS:06d}.safetensors", f"look_back-{STEPS:06d}-ema.safetensors"):
        assert same(tmp_path / "run" / name, whole_run[1].parent / name)


def test_what_a_kill_kept_from_being_written_is_written_at_the_next_start(
    whole_run: tuple[TrainingConfig, Path], tmp_path: Path
) -> None:
    folder, last = tmp_path / "run", f"look_back-{STEPS:06d}"
    shutil.copytree(whole_run[1].parent, folder)
    for name in (f"{last}.safetensors", f"{last}-ema.safetensors"):
        (folder / name).unlink()
    run(elsewhere(whole_run[0], folder))
    for name in (f"{last}.safetensors", f"{last}-ema.safetensors"):
        assert same(folder / name, whole_run[1].parent / name)


def test_sigterm_leaves_a_checkpoint_of_the_very_step(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, max_train_steps=10_000, checkpointing_steps=10_000)
    process = started(config, tmp_path)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "ended by SIGTERM; the same command goes on from here" in told
    progress = json.loads((tmp_path / "run" / "progress.json").read_text())
    assert progress["state"] == "canceled"
    assert [path.name for path in checkpoints(tmp_path / "run")] == [f"checkpoint-{progress['step']:06d}"]


def test_a_watcher_may_cancel_and_resume(whole_run: tuple[TrainingConfig, Path], tmp_path: Path) -> None:
    config = elsewhere(whole_run[0], tmp_path / "run", max_train_steps=STEPS)

    def cancel(progress: Progress) -> None:
        if progress.step == 7:
            raise TrainingCanceled("enough")

    with pytest.raises(TrainingCanceled, match="enough"):
        run(config, cancel)
    assert checkpoints(tmp_path / "run")[-1].name == "checkpoint-000007"
    assert same(run(config), whole_run[1])


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """As on a full disk: no file of this process can grow beyond so many bytes."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_full_disk_loses_no_earlier_checkpoint(whole_run: tuple[TrainingConfig, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = elsewhere(whole_run[0], folder)
    with files_at_most(10**9):
        limits = Limit(after=6, size=40_000)
        with pytest.raises(OSError, match="Is the disk full\\? Earlier checkpoints are whole"):
            run(config, limits)
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-000004"]
    assert not list(folder.glob(".checkpoint*"))
    assert json.loads((folder / "progress.json").read_text())["state"] == "failed"
    assert same(run(config), whole_run[1])


class Limit:
    """Lets no file grow beyond `size` from step `after` on."""

    def __init__(self, after: int, size: int) -> None:
        self.after, self.size = after, size

    def __call__(self, progress: Progress) -> None:
        if progress.step == self.after:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_old_checkpoints_and_their_weights_are_deleted(whole_run: tuple[TrainingConfig, Path]) -> None:
    config, path = whole_run
    kept = [f"{STEPS - 4:06d}", f"{STEPS:06d}"]
    assert config.train.checkpoints_total_limit == 2
    assert [folder.name for folder in checkpoints(path.parent)] == [f"checkpoint-{step}" for step in kept]
    names = {file.name for file in path.parent.glob("look_back-*")}
    assert names == {f"look_back-{step}{end}.safetensors" for step in kept for end in ("", "-ema")}


def test_the_average_is_a_file_of_its_own_and_the_result(whole_run: tuple[TrainingConfig, Path]) -> None:
    _, path = whole_run
    plain, averaged = (path.with_name(f"look_back-{STEPS:06d}{end}.safetensors") for end in ("", "-ema"))
    assert same(averaged, path)
    assert not same(plain, averaged)
    with safe_open(averaged, "pt") as file:
        metadata = file.metadata()
    assert metadata["i2v.kind"] == metadata["i2v.method"] == "look_back"
    assert metadata["i2v.train_steps"] == str(STEPS)
    assert metadata["i2v.averaged"] == "0.998"
    assert len(metadata["i2v.base_sha256"]) == len(metadata["i2v.dataset_fingerprint"]) == 64


def test_without_an_average_the_weights_are_the_result(tmp_path: Path) -> None:
    path = run(tiny_config(tmp_path, max_train_steps=2, ema=EmaConfig(0)))
    assert {file.name for file in path.parent.glob("*.safetensors")} == {
        "look_back.safetensors",
        "look_back-000002.safetensors",
    }
    assert same(path, path.with_name("look_back-000002.safetensors"))


def test_accumulation_takes_the_same_steps_as_a_larger_batch(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, max_train_steps=2, train_batch_size=4)
    parts = elsewhere(config, tmp_path / "parts", train_batch_size=2, gradient_accumulation_steps=2)
    run(config)
    run(parts)
    rows, others = read_log(tmp_path / "run"), read_log(tmp_path / "parts")
    for name in ("loss", "gradient_norm", "loss_quartile_4"):
        assert others[0][name] == pytest.approx(rows[0][name], rel=1e-4), name


def test_gradient_checkpointing_changes_no_loss(whole_run: tuple[TrainingConfig, Path], tmp_path: Path) -> None:
    config = elsewhere(whole_run[0], tmp_path / "run", max_train_steps=2, gradient_checkpointing=True)
    run(config)
    assert losses_of(tmp_path / "run") == pytest.approx(losses_of(whole_run[1].parent)[:2], rel=1e-4)


def test_bf16_learns_about_the_same(whole_run: tuple[TrainingConfig, Path], tmp_path: Path) -> None:
    run(elsewhere(whole_run[0], tmp_path / "run", max_train_steps=2, mixed_precision="bf16"))
    assert losses_of(tmp_path / "run") == pytest.approx(losses_of(whole_run[1].parent)[:2], rel=0.05)
    assert losses_of(tmp_path / "run") != losses_of(whole_run[1].parent)[:2]


def test_a_plan_writes_nothing_and_changes_nothing(whole_run: tuple[TrainingConfig, Path], tmp_path: Path) -> None:
    config = elsewhere(whole_run[0], tmp_path / "run", max_train_steps=3)
    config = replace(config, logging=LoggingConfig("none", plan_steps=1, logging_steps=1))
    text = plan_run(config).text()
    assert not (tmp_path / "run").exists()
    for words in (
        "look_back, base:",
        "1 photographs",
        "adapter ",
        "3 of 2 clips",
        "s a step as measured",
        ", activations ",
    ):
        assert words in text
    run(config, on_plan=lambda plan: None)
    assert losses_of(tmp_path / "run") == losses_of(whole_run[1].parent)[:3]


def test_previews_scalars_and_progress_are_written(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, max_train_steps=2)
    config = replace(
        config,
        validation=ValidationConfig(validation_steps=1, frames=4, num_inference_steps=2),
        logging=LoggingConfig("tensorboard", logging_steps=1, plan_steps=0),
    )
    path = run(config)
    video = path.parent / "previews" / "look_back-000002.mp4"
    assert read_video(video).frames.shape == (4, 32, 32, 3)
    assert video.with_suffix(".png").exists()
    progress = json.loads((path.parent / "progress.json").read_text())
    assert (progress["state"], progress["step"], progress["steps"]) == ("done", 2, 2)
    assert (progress["preview"], progress["result"]) == (str(video), str(path))
    events = next((path.parent / "tensorboard").glob("events*")).read_bytes()
    for name in (b"loss", b"gradient_norm", b"clips_per_second", b"peak_memory_mib", b"rate_adapter"):
        assert name in events


def test_a_folder_of_an_earlier_run_is_not_overwritten(whole_run: tuple[TrainingConfig, Path]) -> None:
    config = replace(whole_run[0], train=replace(whole_run[0].train, resume_from_checkpoint="no"))
    with pytest.raises(ValueError, match="holds checkpoints of an earlier run"):
        run(config)


def test_a_checkpoint_may_be_named(whole_run: tuple[TrainingConfig, Path], tmp_path: Path) -> None:
    folder = whole_run[1].parent / f"checkpoint-{STEPS - 4:06d}"
    config = elsewhere(whole_run[0], tmp_path / "run", resume_from_checkpoint=str(folder))
    torch.manual_seed(99)  # what is drawn depends on the run's seed and the clips alone
    np.random.seed(99)
    random.seed(99)
    assert same(run(config), whole_run[1])
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        run(elsewhere(config, tmp_path / "other", resume_from_checkpoint=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("scheduler", ["constant", "linear", "cosine"])
def test_the_rate_warms_up_and_falls_to_its_end(whole_run: tuple[TrainingConfig, Path], scheduler: str) -> None:
    optim = replace(whole_run[0].optim, lr_scheduler=scheduler, lr_warmup_steps=5)  # type: ignore[arg-type]
    factors = [rate_factor(step, 40, optim) for step in range(41)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[40] == pytest.approx(1 if scheduler == "constant" else optim.final_lr_ratio)


def test_eight_bit_adam_asks_for_its_library(tmp_path: Path) -> None:
    if __import__("importlib.util").util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    config = tiny_config(tmp_path)
    with pytest.raises(ValueError, match='"adamw8bit" needs bitsandbytes: pip install bitsandbytes'):
        run(replace(config, optim=replace(config.optim, optimizer="adamw8bit")))
