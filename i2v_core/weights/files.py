"""Tensor files in and out: safetensors, and PyTorch's own format without ever executing what it carries."""

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..decoding import shown
from ..files import StrPath, atomic_path
from ..text_files import LARGE, TextFileError, decode_text, parse_json, read_json
from .refusals import list_names
from .wrappers import bare_names, unwrap

ZIP_MAGIC, PICKLE_MAGIC, GGUF_MAGIC = b"PK\x03\x04", b"\x80", b"GGUF"
MOST_TENSORS = 1 << 15  # in one file; full checkpoints with all companions have some thousand
MOST_HEADER = 1 << 24  # bytes; trainers write megabytes of notes into it
# Some tensors share their numbers: how often the average byte of a file may be counted, and bytes that are harmless.
TIED, SPARE = 2, 1 << 26
TOWERS = (
    "cond_stage_model.",
    "embedder.",
)  # of CLIP: handed on as they lie in the file, and bounded where they are copied
MOST_PARTS = 1 << 10  # of a split model
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")


class CheckpointError(ValueError):
    """A weights file that cannot be used; the sentence says which, why, and what to do."""


@dataclass(frozen=True)
class TensorFile:
    """Contents of a weights file: tensors by name, and the text beside them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_tensors(path: StrPath, *, described: bool = False) -> TensorFile:
    """Read a file of tensors, all parts of a split one, or a diffusers folder; content decides, not names.

    Wrappers of trainers are taken off: mappings around the tensors, components of compiled and distributed modules.

    Args:
        path: a file; of a split model its index (`*.index.json`) or any part; or a folder of diffusers.
        described: read vectors only, and of all larger tensors just shape and kind, on the device "meta". A PyTorch
            file of the present (zip) form leaves the numbers on the disk until they are used, in either case.

    Raises:
        FileNotFoundError: there is no such file or folder.
        CheckpointError: the file is empty, truncated, no tensor file, lacks parts, or asks to execute code.
    """
    found = weights_files(Path(path))
    parts = [_read_part(file, described) if len(found) > 1 else _read_file(file, described) for file in found]
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    _check_count(len(tensors))
    if len(tensors) < sum(len(part.tensors) for part in parts):
        raise CheckpointError("two of its parts hold tensors of one name: they are of different models")
    if Path(path).suffix == ".json" and (missing := _read_index(Path(path)).keys() - tensors.keys()):
        raise CheckpointError(f"its parts lack {len(missing)} tensors that the index names: {list_names(missing)}")
    return TensorFile(bare_names(tensors), {key: text for part in parts for key, text in part.metadata.items()})


def weights_files(path: Path) -> list[Path]:
    """Find the files to read: the path itself, all parts of a split model, or the weights of a diffusers folder.

    Raises as `read_tensors`.
    """
    if path.is_file():
        return _indexed_parts(path) if path.suffix == ".json" else _parts(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no weights file '{path}'; check the path")
    for folder in (path / "unet", path):
        for pattern in ("diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.bin"):
            # The shortest name is the full-precision one, without a variant, and whole before split.
            found = sorted(folder.glob(pattern), key=lambda file: (len(file.name), file.name))
            if found:
                return _parts(found[0])
    raise CheckpointError("it is a folder without 'diffusion_pytorch_model.safetensors'; choose a file")


def _parts(file: Path) -> list[Path]:
    """The file, or all parts of the model that it is one of, by the names that every splitting library gives them."""
    part = _PART.fullmatch(file.name)
    if part is None:
        return [file]
    count = int(part["count"])
    _check_parts(count)
    names = [f"{part['stem']}-{number:05}-of-{part['count']}{part['suffix']}" for number in range(1, count + 1)]
    return _existing(file.parent, names, f"it is part {int(part['number'])} of {count} of a split model")


def _indexed_parts(index: Path) -> list[Path]:
    names = sorted(set(_read_index(index).values()))
    _check_parts(len(names))
    for name in names:
        windows = PureWindowsPath(name)
        if ".." in windows.parts or windows.anchor or PurePosixPath(name).anchor:
            raise CheckpointError(f"its part '{shown(name)}' lies outside of the folder of the index")
    return _existing(index.parent, names, f"it is the index of a model split over {len(names)} files")


def _read_index(index: Path) -> dict[str, str]:
    """File by name of tensor."""
    try:
        content = read_json(index, limit=LARGE)
    except TextFileError as error:
        raise CheckpointError(str(error)) from error
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(
            "it is no index of a split model, whose 'weight_map' would name a file for each tensor; choose the weights "
            "themselves"
        )
    return places


def _check_parts(count: int) -> None:
    if not 0 < count <= MOST_PARTS:
        raise CheckpointError(f"it is split over {count} files; expected 1 to {MOST_PARTS}")


def _existing(folder: Path, names: list[str], kind: str) -> list[Path]:
    if missing := [name for name in names if not (folder / name).is_file()]:
        lacks = f"{len(missing)} of them are missing" if len(missing) > 1 else "one of them is missing"
        raise CheckpointError(
            f"{kind}, and {lacks} in its folder: {list_names(missing)}; put all of them beside each other"
        )
    return [folder / name for name in names]


def _read_part(file: Path, described: bool) -> TensorFile:
    try:
        return _read_file(file, described)
    except CheckpointError as error:
        raise CheckpointError(f"of its part '{file.name}': {error}") from error


def _read_file(file: Path, described: bool) -> TensorFile:
    with file.open("rb") as stream:
        head = stream.read(64)
    if not head:
        raise CheckpointError("it is empty (0 bytes); download or copy it again")
    # Before the pickles: the length that starts a safetensors file may begin with their magic byte.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= file.stat().st_size:
        return _read_safetensors(file, described)
    if head.startswith(ZIP_MAGIC) or head.startswith(PICKLE_MAGIC):
        if head.startswith(ZIP_MAGIC):
            _check_archive(file)
        tensors = _unwrapped(_read_pickle(file, mmap=head.startswith(ZIP_MAGIC)))
        _check_tensors(tensors, file.stat().st_size)
        return TensorFile(tensors, {})
    if head.startswith(GGUF_MAGIC):
        raise CheckpointError("it is a GGUF file; only safetensors and PyTorch checkpoints can be read")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError("it is a Git LFS pointer and not the weights; fetch the file itself")
    return _read_safetensors(file, described)


def write_tensors(path: StrPath, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write safetensors; the file appears complete or not at all.

    Raises OSError if the folder or the disk refuses.
    """
    with atomic_path(path) as temporary:
        try:
            save_file({key: value.contiguous() for key, value in tensors.items()}, temporary, dict(metadata))
        except SafetensorError as error:
            raise OSError(f"Cannot write '{Path(path).name}': {error}. Is the disk full?") from error


def _read_safetensors(file: Path, described: bool) -> TensorFile:
    def read(opened: Any, key: str) -> Tensor:
        part = opened.get_slice(key)
        shape = part.get_shape()
        if not described or len(shape) < 2:
            return opened.get_tensor(key)
        return torch.empty(shape, dtype=part[:0].dtype, device="meta")

    with file.open("rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    if MOST_HEADER < header <= file.stat().st_size:
        raise CheckpointError(f"its header has {header} bytes; {MOST_HEADER} are more than any model needs")
    try:
        with safe_open(file, framework="pt") as opened:
            _check_count(len(opened.keys()))
            tensors = {key: read(opened, key) for key in opened.keys()}  # noqa: SIM118, not a mapping
            return TensorFile(tensors, opened.metadata() or {})
    # Beside its own errors: sizes beyond 2^63 with a zero among them, and kinds of numbers that this torch has not.
    except (SafetensorError, ArithmeticError, RuntimeError, TypeError, AttributeError) as error:
        if notes := _notes_without_text(file, header):
            raise CheckpointError(
                f"the notes in its header are no text ({list_names(notes)}), which the safetensors format does not "
                "allow: its tensors may be whole, save them again with notes that are strings"
            ) from error
        raise CheckpointError(
            f"it is truncated, damaged or no weights file at all ({_first_line(error)}); download or copy it again"
        ) from error


def _check_archive(file: Path) -> None:
    """Refuse a PyTorch file whose members would grow when they are read; PyTorch itself compresses none."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeError, struct.error) as error:
        raise _damaged(error) from error
    _check_count(len(members))
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise CheckpointError(
                f"its member '{member.filename[:80]}' is compressed, which no checkpoint is: save it again with "
                "torch.save where you trust it"
            )
    if sum(member.file_size for member in members) > file.stat().st_size:
        raise CheckpointError("its members overlap or are longer than the file; download or copy it again")


def _check_tensors(tensors: Mapping[str, Tensor], size: int) -> None:
    """Refuse tensors that are more than numbers in a row, or more numbers than a file of `size` bytes can hold."""
    _check_count(len(tensors))
    total = 0
    for name, tensor in tensors.items():
        plain = tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_quantized
        if not plain or tensor.is_meta:
            raise CheckpointError(
                f"its '{shown(name)}' is no plain tensor but sparse, nested, quantized or empty of numbers"
            )
        claimed = tensor.numel() * tensor.element_size()
        if name.startswith(TOWERS):
            continue
        if claimed > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"its '{shown(name)}' claims {claimed} bytes, which are not in the file")
        total += claimed
    if total > TIED * size + SPARE:
        raise CheckpointError(f"its tensors claim {total} bytes, the file has {size}; download or copy it again")


def _check_count(count: int) -> None:
    if count > MOST_TENSORS:
        raise CheckpointError(f"it has {count} tensors; {MOST_TENSORS} are more than any model needs")


def _damaged(error: Exception) -> CheckpointError:
    return CheckpointError(f"it is truncated or damaged ({_first_line(error)}); download or copy it again")


def _first_line(error: Exception) -> str:
    return shown(str(error).partition("\n")[0] or type(error).__name__, most=200)


def _read_pickle(file: Path, mmap: bool) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "reading it would execute code that the file carries, or it is damaged; "
            "only plain tensors are read: convert it to safetensors where you trust it"
        ) from error
    except Exception as error:  # a damaged pickle fails in every imaginable way
        raise _damaged(error) from error


def _notes_without_text(file: Path, header: int) -> list[str]:
    """Names of the header's notes that are no strings; none if it cannot be read."""
    with file.open("rb") as stream:
        stream.seek(8)
        content = stream.read(min(header, MOST_HEADER))
    try:
        values = parse_json(decode_text(content, file.name, limit=MOST_HEADER))
    except TextFileError:
        return []
    notes = values.get("__metadata__") if isinstance(values, dict) else None
    if not isinstance(notes, dict):
        return [] if notes is None else ["__metadata__"]
    return [name for name, value in notes.items() if not isinstance(value, str)]


def _unwrapped(content: Any) -> dict[str, Tensor]:
    """The tensors of what a PyTorch file held."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"it holds a {type(content).__name__} instead of named tensors")
    if {"optimizer", "average"} <= content.keys():
        raise CheckpointError("it is the saved state of a training run; load the model exported beside it")
    try:
        return bare_names(unwrap(content))
    except ValueError as error:
        raise CheckpointError(str(error)) from error
