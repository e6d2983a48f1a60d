"""What several processes do together, as one program: `program.py CONFIG.toml FOLDER`.

It writes the gradients of a run's first batch to `FOLDER/gradients.safetensors`; trains to the end, and again with a
stop in between, in `FOLDER/whole` and `FOLDER/resumed`; and does the same to a small sharded network, in
`FOLDER/sharded`.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from i2v_core.training.checkpoint_files import write_checkpoint
from i2v_core.training.config import TrainingConfig
from i2v_core.training.config_file import read_config
from i2v_core.training.log import Place
from i2v_core.training.methods import run
from i2v_core.training.state import Average, RunState, whole
from tests.core.training.tiny import first_gradients

STEPS = 4


def main(config: TrainingConfig, folder: Path) -> None:
    engine = first_gradients(config)
    if engine.accelerator.is_main_process:
        gradients = {name: whole(p.grad) for name, p in engine.trained.items() if p.grad is not None}
        save_file(gradients, folder / "gradients.safetensors")
    for name, steps in (("whole", STEPS), ("resumed", STEPS // 2), ("resumed", STEPS)):
        engine.accelerator.wait_for_everyone()
        train = replace(config.train, output_dir=str(folder / name), max_train_steps=steps)
        run(replace(config, train=train))
    shard(folder / "sharded")
    torch.distributed.barrier()
    engine.accelerator.end_training()


def shard(folder: Path) -> None:
    """A network of an odd size, so that the parts are of different sizes; stopped after two steps and resumed."""
    alone = torch.distributed.get_rank() == 0
    for steps in ((4,), (2, 2)):
        for number, part in enumerate(steps):
            torch.manual_seed(0)
            network = fully_shard(nn.Linear(3, 5), mesh=init_device_mesh("cpu", (2,)))
            trained = dict(network.named_parameters())
            state = RunState(
                trained, torch.optim.AdamW(trained.values(), lr=0.1), Average(list(trained.values()), 0.5), Place()
            )
            if number:
                state.restore(folder / f"checkpoint-{sum(steps[:number]):06d}")
            for step in range(part):
                step_of(network, state, sum(steps[:number]) + step)
            assert isinstance(state.optimizer.state[trained["weight"]]["exp_avg"], DTensor)
            contents = state.contents(keep=alone)
            if alone:
                write_checkpoint(contents, folder if len(steps) > 1 else folder / "whole", state.place.step)
            torch.distributed.barrier()


def step_of(network: nn.Module, state: RunState, step: int) -> None:
    generator = torch.Generator().manual_seed(100 * step + torch.distributed.get_rank())
    network(torch.randn(4, 3, generator=generator)).square().mean().backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    assert state.average is not None
    state.average.update()
    state.place.step += 1


if __name__ == "__main__":
    main(read_config(sys.argv[1]), Path(sys.argv[2]))
