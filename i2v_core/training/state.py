"""What a run remembers: the average of its weights, and checkpoints that appear whole or not at all."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..files import StrPath

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKPOINT = re.compile(r"checkpoint-(\d{6,})")
TRAINED = "trained.safetensors"


class Average:
    """The exponential moving average of parameters, which warms up: `min(decay, (1 + n) / (10 + n))` after n steps."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._parameters = list(parameters)
        # Of the trained weights alone: an AveragedModel would hold a frozen base twice, and cannot copy sharded ones.
        self.tensors = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        share = min(self.decay, (1 + self.steps) / (10 + self.steps))
        get_ema_multi_avg_fn(share)(self.tensors, [parameter.detach() for parameter in self._parameters], self.steps)
        self.steps += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the averages stand in for the parameters, for a preview."""
        kept = [parameter.detach().clone() for parameter in self._parameters]
        _copy(self.tensors, self._parameters)
        try:
            yield
        finally:
            _copy(kept, self._parameters)

    def state_dict(self) -> dict[str, Any]:
        """Whole tensors, also of sharded parameters; every process has to ask."""
        return {"steps": self.steps, "tensors": [whole(tensor) for tensor in self.tensors]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.steps = state["steps"]
        _copy(state["tensors"], self.tensors)


def whole(tensor: Tensor) -> Tensor:
    """A tensor's values on the CPU, gathered if it is spread over processes."""
    values: Tensor = cast(Any, tensor).full_tensor() if is_sharded(tensor) else tensor
    return values.detach().cpu()


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds but a part of a tensor; `torch.distributed.tensor` takes long to import."""
    return hasattr(tensor, "full_tensor")


@torch.no_grad()
def _copy(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(_spread_like(target, source) if is_sharded(target) and not is_sharded(source) else source)


def _spread_like(target: Any, source: Tensor) -> Tensor:
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(source.to(target.device), target.device_mesh, target.placements)


def checkpoints(folder: StrPath) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    found = (path for path in Path(folder).glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name) and path.is_dir())
    return sorted(found, key=checkpoint_step)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"checkpoint-{step:06d}"


def checkpoint_step(path: Path) -> int:
    """The step at which a checkpoint was written, by its name."""
    return int(path.name.rpartition("-")[2])


def find_checkpoint(folder: StrPath, wanted: str) -> Path | None:
    """The checkpoint to go on from: "latest", "no", or a path.

    Raises:
        ValueError: "no", but the folder has checkpoints of an earlier run.
        FileNotFoundError: there is no such checkpoint.
    """
    existing = checkpoints(folder)
    if wanted == "no":
        if existing:
            raise ValueError(
                f"'{folder}' holds checkpoints of an earlier run: choose another train.output_dir, or "
                'train.resume_from_checkpoint = "latest" to go on from them'
            )
        return None
    if wanted == "latest":
        return existing[-1] if existing else None
    if not (Path(wanted) / "optimizer.bin").exists() and not list(Path(wanted).glob("optimizer_*")):
        raise FileNotFoundError(f"train.resume_from_checkpoint: '{wanted}' is no checkpoint folder of a training")
    return Path(wanted)


def keep_trained_only(accelerator: "Accelerator", names: Sequence[str]) -> None:
    """Have checkpoints hold the trained weights alone, by the model's names, whatever wraps it.

    Sharded models (FSDP) are written whole by `accelerate` itself.
    """

    def save(models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
        if weights and accelerator.is_main_process:
            state = accelerator.unwrap_model(models[0]).state_dict()
            save_file({name: state[name].contiguous() for name in names}, Path(folder) / TRAINED)
        weights.clear()

    def load(models: list[nn.Module], folder: str) -> None:
        if models:
            state = load_file(Path(folder) / TRAINED)
            if missing := sorted(set(names) ^ state.keys()):
                raise ValueError(f"the checkpoint was written by another configuration: {missing[:3]} differ")
            accelerator.unwrap_model(models.pop()).load_state_dict(state, strict=False)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def write_checkpoint(accelerator: "Accelerator", folder: Path, step: int) -> Path:
    """Write `checkpoint-<step>` of everything that is prepared or registered, under another name until it is whole.

    Raises OSError, and leaves earlier checkpoints as they are, if the disk is full or refuses.
    """
    target = checkpoint_path(folder, step)
    temporary = folder / f".{target.name}.tmp"
    if accelerator.is_main_process:
        _clear(folder)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(temporary))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _sync(temporary)
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
    except (OSError, RuntimeError, SafetensorError) as error:  # each writer has its own way to say that a disk is full
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(
            f"Cannot write '{target}': {str(error).splitlines()[0]}. Is the disk full? Earlier checkpoints are whole: "
            "free some space and start again"
        ) from error
    accelerator.wait_for_everyone()
    return target


def prune(folder: Path, name: str, limit: int | None) -> None:
    """Delete all but the newest `limit` checkpoints, and the weights that were written beside them."""
    for old in checkpoints(folder)[: -limit if limit else 0]:
        shutil.rmtree(old)
        for path in numbered(folder, name, checkpoint_step(old)):
            path.unlink(missing_ok=True)
            lora_beside(path).unlink(missing_ok=True)


def numbered(folder: Path, name: str, step: int) -> tuple[Path, Path]:
    """Files of the weights at a step, and of their average."""
    return folder / f"{name}-{step:06d}.safetensors", folder / f"{name}-{step:06d}-ema.safetensors"


def lora_beside(path: Path) -> Path:
    """Where the LoRA alone lies that weights for users have in them."""
    return path.with_name(f"{path.stem}-lora{path.suffix}")


def _clear(folder: Path) -> None:
    """Delete what an interrupted write left behind."""
    for path in folder.glob(".checkpoint-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Bring a folder's files to the disk, so that its name is not given before its content."""
    for path in [*folder.rglob("*"), folder]:
        with suppress(PermissionError):  # folders cannot be opened on Windows
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
