"""The training loop: seeded, resumable, with an exponential moving average; on CPU or CUDA."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..files import atomic_path

logger = logging.getLogger("i2v_core.training")


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast and where a training runs."""

    output_dir: str
    max_train_steps: int
    train_batch_size: int = 16
    learning_rate: float = 1e-3
    learning_rates: dict[str, float] = field(default_factory=dict)  # of single networks, by their name in the task
    lr_warmup_steps: int = 100
    final_lr_ratio: float = 0.05
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.998
    mixed_precision: Literal["no", "bf16"] = "no"
    device: str = "cpu"
    seed: int = 0
    checkpointing_steps: int = 200
    logging_steps: int = 20


SaveModules = Callable[[nn.ModuleDict, Path, dict[str, str]], None]


class Task(Protocol):
    """What is trained: `modules` hold the trained parameters, `loss` depends on them and on the step only."""

    @property
    def modules(self) -> nn.ModuleDict:
        """Networks by name."""

    def loss(self, step: int, batch_size: int) -> Tensor:
        """Scalar loss of one batch; the same step always sees the same data and noise."""

    def save(self, modules: nn.ModuleDict, path: Path, metadata: dict[str, str]) -> None:
        """Write the result for users."""


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a straight line down to `final_lr_ratio` at the last step."""
    if step < config.lr_warmup_steps:
        return (step + 1) / config.lr_warmup_steps
    done = (step - config.lr_warmup_steps) / max(1, config.max_train_steps - config.lr_warmup_steps)
    return 1 - (1 - config.final_lr_ratio) * min(done, 1.0)


class Trainer:
    """State of one training run: parameters, their average, optimizer and step, saved together."""

    def __init__(self, task: Task, config: TrainConfig) -> None:
        self.task, self.config = task, config
        self.folder = Path(config.output_dir)
        self.device = torch.device(config.device)
        task.modules.to(self.device)
        self.restart_average()
        self.optimizer = torch.optim.AdamW(self._groups(), weight_decay=config.weight_decay)
        self.step, self.seconds = 0, 0.0

    def _groups(self) -> list[dict[str, Any]]:
        rates = self.config.learning_rates
        if unknown := sorted(rates.keys() - self.task.modules.keys()):
            raise ValueError(f"learning_rates names {unknown}, the task trains {list(self.task.modules)}")
        trained = {
            name: [parameter for parameter in network.parameters() if parameter.requires_grad]
            for name, network in self.task.modules.items()
        }
        return [
            {"params": parameters, "full_lr": rates.get(name, self.config.learning_rate)}
            for name, parameters in trained.items()
            if parameters
        ]

    def restart_average(self) -> None:
        """Begin the average at the parameters as they are."""
        decay = get_ema_multi_avg_fn(self.config.ema_decay)
        self.average = AveragedModel(self.task.modules, multi_avg_fn=decay)

    @property
    def state_path(self) -> Path:
        return self.folder / "state.pt"

    def save_state(self) -> None:
        """Write everything needed to go on; an interrupted write leaves the former state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "modules": self.task.modules.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        with atomic_path(self.state_path) as path:
            torch.save(state, path)

    def resume(self) -> bool:
        """Go on from the saved state, if there is one; tell whether there was."""
        if not self.state_path.exists():
            return False
        state = torch.load(self.state_path, map_location=self.device, weights_only=True)
        self.task.modules.load_state_dict(state["modules"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        return True

    def train_step(self) -> float:
        """One optimizer step; return the loss."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * learning_rate_factor(self.step, config)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.mixed_precision == "bf16"):
            loss = self.task.loss(self.step, config.train_batch_size)
        loss.backward()
        nn.utils.clip_grad_norm_(self.task.modules.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.task.modules)
        self.step += 1
        return loss.item()

    def run(self, on_step: Callable[[int, float], None] | None = None) -> Path:
        """Train to the last step, saving on the way; return the file for users.

        Args:
            on_step: called with the step done and its loss; what it raises ends the run, which can be resumed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(json.dumps(asdict(self.config), indent=1))
        self.task.modules.train()
        losses: list[float] = []
        while self.step < self.config.max_train_steps:
            start = time.monotonic()
            losses.append(self.train_step())
            self.seconds += time.monotonic() - start
            if on_step is not None:
                on_step(self.step, losses[-1])
            if self.step % self.config.logging_steps == 0:
                self._log(sum(losses) / len(losses))
                losses.clear()
            if self.step % self.config.checkpointing_steps == 0:
                self.save_state()
                self.export()
        self.save_state()
        return self.export()

    def export(self) -> Path:
        """Write the averaged weights for users."""
        path = self.folder / "model.safetensors"
        metadata = {
            "i2v.train_steps": str(self.step),
            "i2v.train_seconds": str(round(self.seconds)),
            "i2v.train_config": json.dumps(asdict(self.config)),
        }
        averaged: nn.ModuleDict = self.average.module  # type: ignore[assignment]
        self.task.save(averaged, path, metadata)
        return path

    def _log(self, loss: float) -> None:
        row = {"step": self.step, "loss": round(loss, 5), "seconds": round(self.seconds, 1)}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        logger.info("step %(step)d: loss %(loss).5f, %(seconds).0f s", row)
