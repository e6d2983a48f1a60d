"""A checkpoint is numbers: whatever else lies in its folder is refused or passed over in a sentence, and never run."""

import json
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from i2v_core.__main__ import main
from i2v_core.files import atomic_path
from i2v_core.training.checkpoint_files import (
    checkpoint_step,
    checkpoints,
    clear_leftovers,
    find_checkpoint,
    numbered,
    prune,
    write_checkpoint,
)
from i2v_core.training.config_file import write_config
from i2v_core.training.engine import Engine
from i2v_core.training.log import Place
from i2v_core.training.methods import adapter_task, run
from i2v_core.training.state import Average, RunState
from tests.core.training.tiny import tiny_config

PICKLES = (
    "custom_checkpoint_0.pkl", "custom_checkpoint_1.pkl", "random_states_0.pkl", "optimizer.bin", "scheduler.bin",
    "sampler.bin", "dl_state_dict.bin", "scaler.pt", "pytorch_model.bin", "pytorch_model_fsdp_0/.metadata",
    "optimizer_0/.metadata",
)  # fmt: skip


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def plant(path: Path, marker: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(Payload(marker)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step, with the old checkpoint of `accelerate` of the same networks beside it."""
    folder = tmp_path_factory.mktemp("trained")
    config = tiny_config(folder, max_train_steps=1)
    run(config)
    Engine(adapter_task(config), config).accelerator.save_state(str(folder / "old"))
    return folder


def told_by_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    write_config(tiny_config(folder, max_train_steps=2), folder / "config.toml")
    monkeypatch.setattr(sys, "argv", ["i2v_core", "train", str(folder / "config.toml"), *arguments])
    return main()


@pytest.mark.parametrize("road", ["latest", "named", "dry run"])
def test_pickles_of_old_or_foreign_checkpoints_are_refused_in_a_sentence(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], road: str
) -> None:
    shutil.copy(trained / "base.safetensors", tmp_path)
    planted = tmp_path / ("elsewhere" if road == "named" else "run/checkpoint-000001")
    shutil.copytree(trained / "old", planted)
    plant(planted / "custom_checkpoint_0.pkl", tmp_path / "marker")
    arguments = {
        "named": ["--set", f"train.resume_from_checkpoint={json.dumps(str(planted))}"],
        "dry run": ["--dry-run"],
    }
    before = sorted(tmp_path.rglob("*"))
    assert told_by_the_command(tmp_path, monkeypatch, *arguments.get(road, [])) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line]
    assert not (tmp_path / "marker").exists()
    assert len(told) == 1 and told[0].startswith(
        f"error: '{planted}' is no checkpoint from which this training can go on"
    )
    assert {path.name for path in set(tmp_path.rglob("*")) - set(before)} <= {"config.toml", ".lock", "run"}


def test_pickles_beside_a_checkpoint_of_ours_are_not_read(trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "base.safetensors", tmp_path)
    shutil.copytree(trained / "run", tmp_path / "run")
    for name in PICKLES:
        plant(tmp_path / "run/checkpoint-000001" / name, tmp_path / "marker")
        plant(tmp_path / "run/checkpoint-000009" / name, tmp_path / "marker")
    seen: list[int] = []
    run(tiny_config(tmp_path, max_train_steps=2), lambda progress: seen.append(progress.step))
    assert seen == [2], "it went on from step 1"
    assert not (tmp_path / "marker").exists()


def small_state() -> RunState:
    torch.manual_seed(0)
    weights = {name: nn.Parameter(torch.randn(2, 3)) for name in ("a", "b")}
    state = RunState(
        weights, torch.optim.AdamW(weights.values()), Average(list(weights.values()), 0.5), Place(1, 1, 0.5)
    )
    sum(weight.square().sum() for weight in weights.values()).backward()  # type: ignore[union-attr]
    state.optimizer.step()
    return state


def tensors(name: str, **changed: Any) -> Callable[[Path], None]:
    """Another file of tensors; None leaves one out."""

    def change(folder: Path) -> None:
        path = folder / f"{name}.safetensors"
        kept = {key: tensor for key, tensor in {**load_file(path), **changed}.items() if tensor is not None}
        save_file(kept, path)
        _fit_size(path)

    return change


def state_file(**changed: Any) -> Callable[[Path], None]:
    """Other values in state.json, by path such as `numbers__place__step`; text goes there as it is."""

    def change(folder: Path) -> None:
        path = folder / "state.json"
        state = json.loads(path.read_text())
        for key, value in changed.items():
            *parents, last = key.split("__")
            inner = state
            for parent in parents:
                inner = inner[parent]
            inner[last] = value
        path.write_text(json.dumps(state).replace('"<', "").replace('>"', ""))

    return change


def content(name: str, data: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(data)
        if name != "state.json":
            _fit_size(folder / name)

    return change


def _fit_size(path: Path) -> None:
    state_file(**{f"bytes__{path.stem}": path.stat().st_size})(path.parent)


def sparse(folder: Path) -> None:
    with (folder / "optimizer.safetensors").open("r+b") as file:
        file.truncate(2**40)
    _fit_size(folder / "optimizer.safetensors")


def header(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


BOMB = header('{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}')
PLACE = "numbers__place__"
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "no state.json": (lambda folder: (folder / "state.json").unlink(), "there is no 'state.json' in it"),
    "another version": (state_file(version=2), "it was written by another version"),
    "another program": (state_file(format="other"), "its 'state.json' is not of this pack"),
    "a list": (content("state.json", b"[]"), "is not of this pack"),
    "a pickle for JSON": (content("state.json", pickle.dumps({})), "state.json'"),
    "no numbers": (state_file(numbers=[]), "its 'state.json' is incomplete"),
    "no sizes": (state_file(bytes={}), "its 'state.json' is incomplete"),
    "other files": (state_file(**{"bytes__../../x": 1}), "its 'state.json' is incomplete"),
    "large JSON": (content("state.json", b" " * 70_000), "larger than 64 KiB"),
    "nested JSON": (content("state.json", b"[" * 60_000), "nested"),
    "many digits": (state_file(**{f"{PLACE}step": f"<{'9' * 5_000}>"}), "state.json'"),
    "a huge step": (state_file(**{f"{PLACE}step": 2**60}), "'step' has to be a whole number from 0 to 2"),
    "a negative step": (state_file(**{f"{PLACE}step": -1}), "'step' has to be a whole number"),
    "no step": (state_file(**{f"{PLACE}step": None}), "'step' has to be a whole number"),
    "endless seconds": (state_file(**{f"{PLACE}seconds": "<1e999>"}), "state.json'"),
    "short losses": (state_file(**{f"{PLACE}window__sums": [0.0]}), "losses since the last row"),
    "odd losses": (state_file(**{f"{PLACE}window__quartiles": [[0.0] * 4, ["x"] * 4]}), "losses since the last row"),
    "no place": (state_file(numbers={}), "the place of the training is missing"),
    "no average": (state_file(numbers__average_steps=None), "it holds no moving average; train.ema.decay = 0"),
    "odd average": (state_file(numbers__average_steps=0.5), "'average_steps' has to be a whole number"),
    "a missing file": (lambda folder: (folder / "average.safetensors").unlink(), "is missing or incomplete"),
    "half a file": (lambda folder: os.truncate(folder / "trained.safetensors", 90), "is missing or incomplete"),
    "a folder for a file": (lambda folder: _folder_for(folder / "trained.safetensors"), "is missing or incomplete"),
    "a pickle for tensors": (content("trained.safetensors", pickle.dumps({})), "trained.safetensors' is damaged"),
    "a header alone": (content("trained.safetensors", BOMB), "trained.safetensors' is damaged"),
    "a terabyte": (sparse, "optimizer.safetensors' was written by another configuration: it is larger"),
    "another shape": (
        tensors("trained", a=torch.zeros(3, 2)),
        r"'a' has the shape \[3, 2\] and the type F32, \[2, 3\]",
    ),
    "another type": (tensors("average", a=torch.zeros(2, 3).half()), "'a' has the shape"),
    "a tensor less": (tensors("trained", a=None), r"written by another configuration: \['a'\] differ"),
    "a tensor more": (tensors("trained", c=torch.zeros(1)), r"written by another configuration: \['c'\] differ"),
    "moments of others": (tensors("optimizer", **{"exp_avg/c": torch.zeros(1)}), r"\['exp_avg/c'\] differ"),
    "half of the moments": (tensors("optimizer", **{"exp_avg/a": None}), "the moments of 'a' differ"),
}


def _folder_for(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_checkpoint_is_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    folder = write_checkpoint(small_state().contents(), tmp_path, 1)
    small_state().restore(folder)
    change, sentence = BAD[kind]
    change(folder)
    with pytest.raises(ValueError, match=sentence) as refused:
        small_state().restore(folder)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 600


def test_what_a_killed_write_or_deletion_left_is_cleared(tmp_path: Path) -> None:
    write_checkpoint(small_state().contents(), tmp_path, 1)
    for name in (".checkpoint-000002.tmp", ".checkpoint-000003.old.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trained.safetensors").touch()
    (tmp_path / "previews").mkdir()
    for name in (".i2v-0.tmp", "previews/.i2v-1.tmp"):
        (tmp_path / name).touch()
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-000001", "previews"]
    assert not list((tmp_path / "previews").iterdir())
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-000001"]


def ended_at(moment: int, action: Callable[[], None]) -> bool:
    """Do something in a process that is killed at its n-th operation on files; whether it came that far."""
    child = os.fork()
    if child == 0:
        left = [moment]

        def count(event: str, _: Any) -> None:
            if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        with suppress(BaseException):
            action()
            os._exit(0)
        os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def weights(folder: Path, step: int) -> Path:
    return numbered(folder, "weights", step)[0]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("step", [2, 3], ids=["replaced", "new"])
def test_killed_at_any_moment_a_write_loses_nothing_and_leaves_what_the_next_start_clears(
    tmp_path: Path, step: int
) -> None:
    state, moments = small_state(), 0
    before = tmp_path / "before"
    for number in (1, 2):
        write_checkpoint(state.contents(), before, number)
        weights(before, number).write_text("weights")

    def save(folder: Path) -> None:
        write_checkpoint(state.contents(), folder, step)
        with atomic_path(weights(folder, step)) as temporary:
            temporary.write_text("weights")
        prune(folder, "weights", 2)

    save(shutil.copytree(before, tmp_path / "warm"))
    while True:
        folder = shutil.copytree(before, tmp_path / str(moments))
        killed = ended_at(moments, partial(save, folder))
        assert sorted(folder.glob("checkpoint-*")) == checkpoints(folder), "none is half there"
        clear_leftovers(folder)
        assert find_checkpoint(folder, "latest") in [folder / f"checkpoint-{number:06d}" for number in {2, step}]
        state.restore(checkpoints(folder)[-1])
        prune(folder, "weights", 2)
        kept = [checkpoint_step(path) for path in checkpoints(folder)]
        allowed = {f"checkpoint-{number:06d}" for number in kept} | {
            f"weights-{number:06d}.safetensors" for number in kept
        }
        assert len(kept) == 2 and {path.name for path in folder.iterdir()} <= allowed
        if not killed:
            break
        moments += 1
    assert moments > 15
