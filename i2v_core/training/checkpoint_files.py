"""Checkpoints of a training: numbers in safetensors and JSON, so that reading one can run no code.

A folder `checkpoint-000500` holds

    trained.safetensors     the trained weights, by the names of the model
    optimizer.safetensors   what the optimizer remembers of each, as "exp_avg/NAME"
    average.safetensors     their moving average, if the run keeps one
    state.json              the rest, and the size of each file above; written last

The folder has another name until it is whole, and while it is deleted. Whole tensors, also of sharded runs: another
number of processes may go on from them.
"""

import json
import logging
import math
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..files import StrPath
from ..text_files import TextFileError, read_json

logger = logging.getLogger("i2v_core.training")

FOLDER = re.compile(r"checkpoint-(\d{6,18})")
STATE = "state.json"
FORMAT, VERSION = "i2v_training_checkpoint", 1
REQUIRED, OPTIONAL = frozenset({"trained", "optimizer"}), frozenset({"average"})
ASIDE = ".old.tmp"
LARGEST_STATE = 2**16  # bytes
HEADER = 512  # bytes for each tensor, beside its name, that the header of a safetensors file may take

Layout = tuple[tuple[int, ...], torch.dtype]
_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.uint8: "U8",
}  # fmt: skip
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Contents:
    """Contents of a checkpoint.

    Attributes:
        numbers: what JSON can hold.
        tensors: by file, without its ending, and name.
    """

    numbers: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]


def checkpoints(folder: StrPath) -> list[Path]:
    """The whole checkpoints of a run, oldest first; a folder that is called like one and is none is not among them."""
    return [path for path in _called_checkpoints(folder) if _fault(path) is None]


def checkpoint_path(folder: Path, step: int) -> Path:
    """Path of the checkpoint of a step."""
    return folder / f"checkpoint-{step:06d}"


def checkpoint_step(path: Path) -> int:
    """The step at which a checkpoint was written, by its name."""
    return int(path.name.rpartition("-")[2])


def find_checkpoint(folder: StrPath, wanted: str) -> Path | None:
    """The checkpoint to go on from: "latest", which passes over what is none, "no", or a path.

    Raises:
        ValueError: "no", but the folder has checkpoints of an earlier run; what is named, or all that there is, is no
            checkpoint of this version.
        FileNotFoundError: there is no such checkpoint.
    """
    if wanted not in ("latest", "no"):
        if not Path(wanted).is_dir():
            raise FileNotFoundError(f"train.resume_from_checkpoint: there is no folder '{wanted}'")
        read_numbers(Path(wanted))
        return Path(wanted)
    called = _called_checkpoints(folder)
    if wanted == "no":
        if called:
            raise ValueError(
                f"'{folder}' holds checkpoints of an earlier run: choose another train.output_dir, or "
                'train.resume_from_checkpoint = "latest" to go on from them'
            )
        return None
    faults = list[str]()
    for path in reversed(called):
        fault = _fault(path)
        if fault is None:
            for sentence in faults:
                logger.warning("%s; it is passed over", sentence)
            return path
        faults.append(fault)
    if faults:
        raise ValueError(f"{faults[0]}; move it away, or choose another train.output_dir")
    return None


def read_numbers(folder: Path) -> Mapping[str, Any]:
    """Read a checkpoint's JSON once all of its files are known to be there; their tensors are not read.

    Raises ValueError for a folder that is no whole checkpoint of this version.
    """
    path = folder / STATE
    if not path.is_file():
        raise _refused(folder, f"there is no '{STATE}' in it; those of earlier versions cannot be read")
    try:
        state = read_json(path, limit=LARGEST_STATE)
    except (TextFileError, OSError) as error:
        raise _refused(folder, str(error)) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise _refused(folder, f"its '{STATE}' is not of this pack")
    if state.get("version") != VERSION:
        raise _refused(folder, f"it was written by another version (format {str(state.get('version'))[:20]!r})")
    _check_sizes(folder, state.get("bytes"))
    if not isinstance(state.get("numbers"), dict):
        raise _refused(folder, f"its '{STATE}' is incomplete")
    numbers: Mapping[str, Any] = state["numbers"]
    return numbers


def read_tensors(
    path: Path, layouts: Mapping[str, Collection[Layout]], *, whole: bool = True
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file on the CPU, one after the other, once all of them were seen to fit.

    Args:
        layouts: by name the shapes and types that a tensor may have.
        whole: all of these names have to be there.

    Raises ValueError before anything is allocated, if a name, a shape, a type or the file's size does not fit.
    """
    other = f"'{path}' was written by another configuration"
    try:
        if path.stat().st_size > _largest(layouts):
            raise ValueError(f"{other}: it is larger than the networks that are trained now")
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            if differ := sorted(names - layouts.keys() if not whole else names ^ layouts.keys()):
                raise ValueError(f"{other}: {[text[:100] for text in differ[:3]]} differ")
            for key in sorted(names):
                found = file.get_slice(key)
                layout = tuple(found.get_shape()), found.get_dtype()
                if layout not in [(shape, _DTYPES.get(dtype)) for shape, dtype in layouts[key]]:
                    have, want = f"the shape {list(layout[0])} and the type {layout[1]}", _words(layouts[key])
                    raise ValueError(f"{other}: '{key}' has {have}, {want} expected")
            for key in sorted(names):
                yield key, file.get_tensor(key).clone()  # else it would stay a part of the file
    except (SafetensorError, OSError) as error:
        raise ValueError(f"'{path}' is damaged, or no file of weights") from error


def load_weights(network: nn.Module, path: Path) -> None:
    """Load what an earlier start of a training made once and for all; ValueError for anything else, in a sentence."""
    layouts = {
        name: [(tuple(tensor.shape), dtype) for dtype in (_FLOATS if tensor.is_floating_point() else (tensor.dtype,))]
        for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(dict(read_tensors(path, layouts)))


def write_contents(contents: Contents, folder: Path) -> None:
    """Write all files of a checkpoint into an empty folder; OSError or SafetensorError if the disk refuses."""
    for name, tensors in contents.tensors.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")
    sizes = {name: (folder / f"{name}.safetensors").stat().st_size for name in contents.tensors}
    state = {"format": FORMAT, "version": VERSION, "bytes": sizes, "numbers": contents.numbers}
    (folder / STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
    _sync(folder)


def write_checkpoint(contents: Contents, folder: Path, step: int) -> Path:
    """Write `checkpoint-<step>`, under another name until it is whole; one that is there is replaced.

    Raises OSError, and leaves earlier checkpoints as they are, if the disk is full or refuses.
    """
    target = checkpoint_path(folder, step)
    temporary = folder / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write_contents(contents, temporary)
        doomed = _set_aside(target)
        temporary.rename(target)
        _sync(folder, names_only=True)
        _remove(doomed)
    except (OSError, SafetensorError) as error:  # each writer has its own way to say that a disk is full
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(
            f"Cannot write '{target}': {str(error).splitlines()[0]}. Is the disk full? Earlier checkpoints are whole: "
            "free some space and start again"
        ) from error
    return target


def prune(folder: Path, name: str, limit: int | None) -> None:
    """Delete all but the newest `limit` checkpoints, and the weights that were written beside them."""
    for old in checkpoints(folder)[: -limit if limit else 0]:
        for path in numbered(folder, name, checkpoint_step(old)):  # first, or a kill in between would leave them here
            path.unlink(missing_ok=True)
            lora_beside(path).unlink(missing_ok=True)
        _remove(_set_aside(old))


def clear_leftovers(folder: Path) -> None:
    """Delete what a killed training was about to write or to delete; only who holds the folder may ask for it.

    A checkpoint that was about to be replaced is put back.
    """
    for old in folder.glob(f".checkpoint-*{ASIDE}"):
        target = old.with_name(old.name[1:].removesuffix(ASIDE))
        if not target.exists() and _fault(old) is None:
            old.rename(target)
    for place in (folder, folder / "previews"):
        for path in [*place.glob(".checkpoint-*.tmp"), *place.glob(".i2v-*.tmp")]:
            _remove(path)


def numbered(folder: Path, name: str, step: int) -> tuple[Path, Path]:
    """Files of the weights at a step, and of their average."""
    return folder / f"{name}-{step:06d}.safetensors", folder / f"{name}-{step:06d}-ema.safetensors"


def lora_beside(path: Path) -> Path:
    """Path of the LoRA alone, beside the weights in which it is merged."""
    return path.with_name(f"{path.stem}-lora{path.suffix}")


def _called_checkpoints(folder: StrPath) -> Sequence[Path]:
    found = (path for path in Path(folder).glob("checkpoint-*") if FOLDER.fullmatch(path.name) and path.is_dir())
    return sorted(found, key=checkpoint_step)


def _fault(folder: Path) -> str | None:
    try:
        read_numbers(folder)
    except ValueError as error:
        return str(error)
    return None


def _refused(folder: Path, reason: str) -> ValueError:
    return ValueError(f"'{folder}' is no checkpoint from which this training can go on: {reason}")


def _check_sizes(folder: Path, sizes: Any) -> None:
    if not isinstance(sizes, dict) or not REQUIRED <= sizes.keys() <= REQUIRED | OPTIONAL:
        raise _refused(folder, f"its '{STATE}' is incomplete")
    for name, size in sizes.items():
        path = folder / f"{name}.safetensors"
        if not path.is_file() or path.stat().st_size != size:
            raise _refused(folder, f"its '{path.name}' is missing or incomplete")


def _largest(layouts: Mapping[str, Collection[Layout]]) -> int:
    """Most bytes of a file with these tensors, header and all."""
    total = HEADER
    for name, choices in layouts.items():
        values = max(math.prod(shape) * dtype.itemsize for shape, dtype in choices)
        total += len(name.encode()) + HEADER + values
    return total


def _words(layouts: Collection[Layout]) -> str:
    return " or ".join(f"{list(shape)} and {_DTYPES.get(dtype, dtype)}" for shape, dtype in layouts)


def _set_aside(target: Path) -> Path:
    """Give what is to be deleted, if it is there, another name until nothing is left of it; return the name."""
    doomed = target.with_name(f".{target.name}{ASIDE}")
    _remove(doomed)
    if target.exists() or target.is_symlink():
        target.rename(doomed)
    return doomed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(folder: Path, *, names_only: bool = False) -> None:
    """Bring a folder's files to the disk, so that its name is not given before its content."""
    for path in [*([] if names_only else folder.iterdir()), folder]:
        with suppress(PermissionError):  # folders cannot be opened on Windows
            handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows wants to write to files
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
