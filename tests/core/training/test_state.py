"""Averages, checkpoints' names, and the place from which a run goes on."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from i2v_core.training.engine import Engine
from i2v_core.training.log import append_row, forget_rows_after, read_log
from i2v_core.training.methods import adapter_task, run
from i2v_core.training.state import Average, checkpoints, find_checkpoint, prune, whole
from tests.core.training.tiny import tiny_config


def grown(average: Average, parameters: list[nn.Parameter], steps: int) -> None:
    """Let parameters grow by one at each step."""
    for _ in range(steps):
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(1)
        average.update()


def test_the_average_warms_up_and_then_keeps_its_share() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    average, wanted = Average([parameter], 0.9), 0.0
    for step in range(1, 200):
        grown(average, [parameter], 1)
        share = min(0.9, step / (9 + step))
        wanted = share * wanted + (1 - share) * step
    assert average.tensors[0].tolist() == pytest.approx([wanted] * 3)
    assert wanted == pytest.approx(199 - 9, abs=0.1), "a steady share of 0.9 lags nine steps behind"


def test_the_average_stands_in_and_leaves_again() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    average = Average([parameter], 0.9)
    grown(average, [parameter], 3)
    with average.in_place():
        assert torch.equal(parameter, average.tensors[0])
    assert parameter.item() == 3


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_sharded_weights_are_averaged_saved_and_restored_as_whole_ones() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    other = nn.Linear(3, 2)
    other.load_state_dict(network.state_dict())
    fully_shard(network, mesh=init_device_mesh("cpu", (1,)))
    sharded, plain = list(network.parameters()), list(other.parameters())
    averages = Average(sharded, 0.5), Average(plain, 0.5)
    for average, parameters in zip(averages, (sharded, plain), strict=True):
        grown(average, parameters, 4)
    assert isinstance(averages[0].tensors[0], DTensor)
    state = averages[0].state_dict()
    for mine, theirs in zip(state["tensors"], averages[1].tensors, strict=True):
        torch.testing.assert_close(mine, theirs)
    restored = Average(sharded, 0.5)
    restored.load_state_dict(state)
    assert restored.steps == 4
    for mine, theirs in zip(restored.tensors, state["tensors"], strict=True):
        torch.testing.assert_close(whole(mine), theirs, rtol=0, atol=0)


def test_the_newest_whole_checkpoint_is_found(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path, "latest") is None
    for name in (
        "checkpoint-000900",
        "checkpoint-001000",
        "checkpoint-1000000",
        ".checkpoint-2000000.tmp",
        "checkpoint-x",
    ):
        (tmp_path / name).mkdir()
    assert find_checkpoint(tmp_path, "latest") == tmp_path / "checkpoint-1000000"
    for step in ("000900", "1000000"):
        (tmp_path / f"look_back-{step}.safetensors").touch()
    prune(tmp_path, "look_back", None)
    assert len(checkpoints(tmp_path)) == 3
    prune(tmp_path, "look_back", 1)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-1000000"]
    assert [path.name for path in tmp_path.glob("look_back*")] == ["look_back-1000000.safetensors"]


def test_another_batch_size_goes_on_with_the_next_clip(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, max_train_steps=2, train_batch_size=2)
    run(config)
    train = replace(config.train, train_batch_size=3, max_train_steps=4)
    engine = Engine(adapter_task(config), replace(config, train=train))
    engine.resume()
    assert (engine.place.step, engine.place.items) == (2, 4)
    assert [raw.items for raw in engine.loader()] == [[4, 5, 6], [7, 8, 9]]


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, max_train_steps=1)
    run(config)
    method = replace(config.method, options={"trained_along": ["out."]})
    with pytest.raises(ValueError, match=r"written by another configuration: \['networks.unet.out"):
        run(replace(config, method=method))


def test_rows_that_will_be_written_again_are_forgotten(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    for step in (1, 2, 3):
        append_row(log, {"step": step, "loss": 1 / step})
    with log.open("a") as file:
        file.write('{"step": 4, "lo')
    forget_rows_after(log, 2)
    assert [row["step"] for row in read_log(tmp_path)] == [1, 2]
