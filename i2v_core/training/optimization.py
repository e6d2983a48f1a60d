"""Set-up of a run: the accelerator, the optimizer, and the learning rates of its networks."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .config import OptimConfig, TrainingConfig
from .objective import Objective

if TYPE_CHECKING:
    from accelerate import Accelerator


def trained_parameters(objective: Objective) -> dict[str, list[nn.Parameter]]:
    """Trained parameters by network; raises ValueError if there are none."""
    found = {
        name: [parameter for parameter in network.parameters() if parameter.requires_grad]
        for name, network in objective.networks.items()
    }
    if not any(found.values()):
        raise ValueError("nothing is trained: the method's options leave every weight as it is")
    return {name: parameters for name, parameters in found.items() if parameters}


def learning_rates(objective: Objective, config: OptimConfig, default: Mapping[str, float]) -> dict[str, float]:
    """Learning rates by network: the network's own, else one for all, both of the configuration, else `default`.

    Raises ValueError for a rate of a network that is not there, and for a network that nothing gives a rate.
    """
    if unknown := sorted(config.param_groups.keys() - set(objective.networks)):
        raise ValueError(f"optim.param_groups names {unknown}; the run trains {list(objective.networks)}")
    trained = trained_parameters(objective)
    for_all = {} if config.learning_rate is None else dict.fromkeys(trained, config.learning_rate)
    given = {**default, **for_all, **config.param_groups}
    if lacking := [name for name in trained if name not in given]:
        raise ValueError(
            f"no learning rate is known for {lacking}: name one for all in optim.learning_rate, or one for each in "
            "[optim.param_groups]"
        )
    return {name: given[name] for name in trained}


def rate_factor(step: int, steps: int, config: OptimConfig) -> float:
    """Share of the full rate at a step: linear warm-up, then constant, or down to `final_lr_ratio` at the last step."""
    if step < config.lr_warmup_steps:
        return (step + 1) / config.lr_warmup_steps
    done = min(1.0, (step - config.lr_warmup_steps) / max(1, steps - config.lr_warmup_steps))
    fall = {"constant": 0.0, "linear": done, "cosine": (1 - math.cos(math.pi * done)) / 2}[config.lr_scheduler]
    return 1 - (1 - config.final_lr_ratio) * fall


def set_rates(optimizer: torch.optim.Optimizer, full: Sequence[float], step: int, config: TrainingConfig) -> None:
    """Set the rates of a step; they depend on the step alone, so that a resumed run needs no scheduler's state."""
    factor = rate_factor(step, config.train.max_train_steps, config.optim)
    for group, rate in zip(optimizer.param_groups, full, strict=True):
        group["lr"] = rate * factor


def make_optimizer(config: OptimConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW, or bitsandbytes' with states of 8 bits, of groups that have their rates.

    Raises ValueError if the latter is not installed.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError('optim.optimizer = "adamw8bit" needs bitsandbytes: pip install bitsandbytes, or use "adamw"')
    import bitsandbytes

    optimizer: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(groups, weight_decay=config.weight_decay)
    return optimizer


def make_accelerator(config: TrainingConfig) -> "Accelerator":
    """The accelerator of a run; raises ValueError if a library is missing."""
    wanted = ["accelerate"] + (["tensorboard"] if config.logging.report_to == "tensorboard" else [])
    if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
        raise ValueError(f'training needs {" and ".join(missing)}: pip install "i2v-diffusion[train]"')
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, ProjectConfiguration

    # A process may run several trainings, one after the other, and each sets its own precision.
    AcceleratorState._reset_state()
    train = config.train
    return Accelerator(
        cpu=train.device == "cpu",
        mixed_precision=train.mixed_precision,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        log_with="tensorboard" if config.logging.report_to == "tensorboard" else None,
        project_config=ProjectConfiguration(project_dir=train.output_dir, logging_dir=train.output_dir),
        dataloader_config=DataLoaderConfiguration(even_batches=False),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=train.find_unused_parameters)],
        step_scheduler_with_optimizer=False,
    )
