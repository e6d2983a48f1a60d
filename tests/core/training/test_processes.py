"""Many processes, on one machine or several, take the steps of one process with all their clips."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from i2v_core.training.config import TrainingConfig
from i2v_core.training.config_file import write_config
from i2v_core.training.log import read_log
from i2v_core.training.methods import run
from i2v_core.weights import load_adapter
from tests.core.training.tiny import first_gradients, tiny_config

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return tiny_config(tmp_path, max_train_steps=3, train_batch_size=2)


def halved(config: TrainingConfig, folder: Path) -> Path:
    """The same run with half the batch in each process, as a file."""
    train = replace(config.train, output_dir=str(folder / "processes"), train_batch_size=1)
    write_config(replace(config, train=train), folder / "config.toml")
    return folder / "config.toml"


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def finished(*processes: subprocess.Popen[str]) -> None:
    try:
        for process in processes:
            _, told = process.communicate(timeout=600)
            assert process.returncode == 0, told
    finally:
        for process in processes:
            process.terminate()  # the launcher takes its workers along
            process.communicate()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingConfig, Path]:
    """What two processes did (`program`), and the configuration of one process that does the same."""
    folder = tmp_path_factory.mktemp("together")
    config = tiny_config(folder, max_train_steps=3, train_batch_size=2)
    program = "tests/core/training/program.py"
    finished(torchrun("--standalone", "--nproc-per-node", "2", program, str(halved(config, folder)), str(folder)))
    return config, folder


def test_two_processes_have_the_gradients_of_one_with_both_batches(together: tuple[TrainingConfig, Path]) -> None:
    found, alone = load_file(together[1] / "gradients.safetensors"), first_gradients(together[0])
    assert found.keys() == alone.trained.keys()
    for name, parameter in alone.trained.items():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("whole", "resumed", "steps"), [("whole", "resumed", 4), ("sharded/whole", "sharded", 4)], ids=["copied", "sharded"]
)
def test_two_processes_go_on_bit_by_bit_to_where_they_would_have_come(
    together: tuple[TrainingConfig, Path], whole: str, resumed: str, steps: int
) -> None:
    one, other = (together[1] / name / f"checkpoint-{steps:06d}" for name in (whole, resumed))
    for name in ("trained", "optimizer", "average"):
        first, second = (load_file(folder / f"{name}.safetensors") for folder in (one, other))
        assert first.keys() == second.keys() and first
        assert all(torch.equal(first[key], second[key]) for key in first), name


def test_two_machines_train_together(config: TrainingConfig, tmp_path: Path) -> None:
    """Each machine has a launcher of its own; they meet over the loopback device."""
    file, port = halved(config, tmp_path), free_port()
    meeting = ("--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port))
    finished(*(torchrun(*meeting, "--node-rank", str(rank), "-m", "i2v_core", "train", str(file)) for rank in (0, 1)))
    run(config)
    together, alone = read_log(tmp_path / "processes"), read_log(tmp_path / "run")
    assert [row["step"] for row in together] == [1, 2, 3]
    for name in ("loss", "gradient_norm"):
        assert together[0][name] == pytest.approx(alone[0][name], rel=1e-4), name
    assert [row["loss"] for row in together] == pytest.approx([row["loss"] for row in alone], rel=1e-2)
    assert load_adapter(tmp_path / "processes" / "look_back.safetensors").metadata["i2v.train_steps"] == "3"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
