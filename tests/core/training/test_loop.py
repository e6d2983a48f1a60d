"""The loop is a law of its inputs: interrupted and resumed it ends where an uninterrupted run ends."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from i2v_core.training.loop import TrainConfig, Trainer, learning_rate_factor


class Line:
    """Fit `y = 3 x - 1` with noise that depends on the step only."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.modules = nn.ModuleDict({"line": nn.Linear(1, 1)})

    def loss(self, step: int, batch_size: int) -> Tensor:
        x = torch.randn(batch_size, 1, generator=torch.Generator().manual_seed(step))
        return (self.modules["line"](x) - (3 * x - 1)).square().mean()

    def save(self, modules: nn.ModuleDict, path: Path, metadata: dict[str, str]) -> None:
        torch.save((modules.state_dict(), metadata), path)


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return TrainConfig(str(tmp_path), 40, 8, learning_rate=0.3, lr_warmup_steps=5, checkpointing_steps=10)


def test_it_learns(config: TrainConfig) -> None:
    task = Line()
    Trainer(task, replace(config, max_train_steps=200)).run()
    torch.testing.assert_close(task.modules["line"].weight.item(), 3.0, rtol=0, atol=0.1)


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(config: TrainConfig, tmp_path: Path) -> None:
    whole = Trainer(Line(), config)
    whole.run()

    def interrupt(step: int, _: float) -> None:
        if step == 25:
            raise KeyboardInterrupt

    parts = replace(config, output_dir=str(tmp_path / "parts"))
    with pytest.raises(KeyboardInterrupt):
        Trainer(Line(), parts).run(interrupt)
    resumed = Trainer(Line(), parts)
    assert resumed.resume()
    assert resumed.step == 20
    resumed.run()
    for name, value in whole.average.state_dict().items():
        torch.testing.assert_close(resumed.average.state_dict()[name], value, rtol=0, atol=0)


def test_the_rate_warms_up_and_falls_to_its_end(config: TrainConfig) -> None:
    factors = [learning_rate_factor(step, config) for step in range(41)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[40] == pytest.approx(config.final_lr_ratio)


def test_a_log_row_is_written_every_logging_step(config: TrainConfig, tmp_path: Path) -> None:
    Trainer(Line(), config).run()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 40 // config.logging_steps


def test_nothing_to_resume_is_told(config: TrainConfig) -> None:
    assert not Trainer(Line(), config).resume()
