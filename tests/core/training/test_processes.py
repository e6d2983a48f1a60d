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


def test_two_processes_have_the_gradients_of_one_with_both_batches(config: TrainingConfig, tmp_path: Path) -> None:
    file = halved(config, tmp_path)
    finished(
        torchrun(
            "--standalone",
            "--nproc-per-node",
            "2",
            "tests/core/training/tiny.py",
            str(file),
            str(tmp_path / "gradients"),
        )
    )
    found, alone = load_file(tmp_path / "gradients"), first_gradients(config)
    assert found.keys() == alone.trained.keys()
    for name, parameter in alone.trained.items():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


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
