"""Averages, checkpoints' names, and the place from which a run goes on."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from i2v_core.training.checkpoint_files import Contents, checkpoints, find_checkpoint, prune, write_checkpoint
from i2v_core.training.engine import Engine
from i2v_core.training.log import Place, append_row, forget_rows_after, read_log
from i2v_core.training.methods import adapter_task, run
from i2v_core.training.state import Average, RunState
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


def run_state(network: nn.Module) -> RunState:
    """Of a network that took some steps, whose last weight no gradient has reached."""
    trained = dict(network.named_parameters())
    state = RunState(trained, torch.optim.AdamW(trained.values()), Average(list(trained.values()), 0.5), Place())
    steps(state, network, 3)
    return state


def steps(state: RunState, network: nn.Module, number: int) -> None:
    torch.manual_seed(state.place.step)
    for _ in range(number):
        network(torch.randn(4, 3)).square().mean().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        assert state.average is not None
        state.average.update()
        state.place.step += 1


class Partly(nn.Module):
    """The last weight is not used, as by a method that drops a part of its network."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(3, 2), nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


@pytest.mark.usefixtures("alone")
def test_sharded_and_whole_weights_go_on_from_each_others_checkpoints_bit_by_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = Partly()
    sharded = deepcopy(first)
    fully_shard(sharded, mesh=init_device_mesh("cpu", (1,)))
    states = run_state(first), run_state(sharded)
    for number, state in enumerate(states):
        write_checkpoint(state.contents(), tmp_path / str(number), 3)
    assert isinstance(states[1].optimizer.state[states[1].trained["used.weight"]]["exp_avg"], DTensor)
    steps(states[0], first, 2)
    for source in (0, 1):
        torch.manual_seed(1)
        for network in (Partly(), fully_shard(Partly(), mesh=init_device_mesh("cpu", (1,)))):
            state = run_state(network)
            state.restore(tmp_path / str(source) / "checkpoint-000003")
            steps(state, network, 2)
            for name, tensors in states[0].contents().tensors.items():
                found = state.contents().tensors[name]
                assert found.keys() == tensors.keys()
                assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items()), name
            assert state.contents().numbers == states[0].contents().numbers


def empty_checkpoint(folder: Path, step: int) -> None:
    write_checkpoint(Contents({}, {"trained": {}, "optimizer": {}}), folder, step)


def test_the_newest_whole_checkpoint_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_checkpoint(tmp_path, "latest") is None
    for step in (900, 1000, 1_000_000):
        empty_checkpoint(tmp_path, step)
    for name in (".checkpoint-2000000.tmp", "checkpoint-x", "checkpoint-3000000"):
        (tmp_path / name).mkdir()
    assert find_checkpoint(tmp_path, "latest") == tmp_path / "checkpoint-1000000"
    assert (
        "checkpoint-3000000' is no checkpoint from which this training can go on: there is no 'state.json' in it; "
        "those of earlier versions cannot be read; it is passed over" in caplog.text
    )
    for number in ("000900", "1000000"):
        (tmp_path / f"look_back-{number}.safetensors").touch()
    prune(tmp_path, "look_back", None)
    assert len(checkpoints(tmp_path)) == 3
    prune(tmp_path, "look_back", 1)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-1000000"]
    assert [path.name for path in tmp_path.glob("look_back*")] == ["look_back-1000000.safetensors"]
    assert (tmp_path / "checkpoint-3000000").exists(), "what is not ours is nobody's to delete"


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


def test_the_scale_of_the_gradients_goes_on_and_only_a_number_above_0_is_one(tmp_path: Path) -> None:
    def scaled(scale: float) -> RunState:
        weights = {"a": nn.Parameter(torch.ones(2))}
        return RunState(weights, torch.optim.AdamW(weights.values()), None, Place(), torch.amp.GradScaler("cpu", scale))

    for step, scale in enumerate((1024.0, 0.0), start=1):
        write_checkpoint(scaled(scale).contents(), tmp_path, step)
    state = scaled(2.0)
    state.restore(tmp_path / "checkpoint-000001")
    assert state.scaler.get_scale() == 1024
    with pytest.raises(ValueError, match="the scale of the gradients has to be a number above 0"):
        state.restore(tmp_path / "checkpoint-000002")
