"""Configurations in the headers of weights files, so that a file says what it holds."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..decoding import DecodingError, UnknownKeyError, decode, decode_any
from ..text_files import TextFileError, decode_text, parse_json
from .files import CheckpointError, TensorFile

C = TypeVar("C")
SIZE = 1 << 20  # characters of a description; that of the largest network has some thousand
PACKED = "i2v.header"  # a header as a tensor, for files that others write, who have their own text in the header


def packed_header(metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """A header as a tensor of bytes under the name by which `with_packed_header` finds it."""
    return {PACKED: torch.tensor(list(json.dumps(dict(metadata)).encode()), dtype=torch.uint8)}


def with_packed_header(file: TensorFile) -> TensorFile:
    """The file with the text of such a tensor in its metadata; raises CheckpointError if it holds anything else."""
    packed = file.tensors.get(PACKED)
    if packed is None:
        return file
    if packed.dtype != torch.uint8 or packed.ndim != 1 or len(packed) > 2 * SIZE:
        raise CheckpointError(f"its '{PACKED}' is no text; save it again")
    try:
        text = parse_json(decode_text(bytes(packed.tolist()), PACKED, limit=2 * SIZE), f"its '{PACKED}'")
    except TextFileError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(text, dict) or not all(isinstance(value, str) for value in text.values()):
        raise CheckpointError(f"its '{PACKED}' should be an object of texts")
    rest = {name: tensor for name, tensor in file.tensors.items() if name != PACKED}
    return TensorFile(rest, file.metadata | text)


def read_description(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object `i2v.config` of a header; raises CheckpointError for anything else."""
    text = metadata.get("i2v.config")
    if text is None or len(text) > SIZE:
        found = "no 'i2v.config'" if text is None else f"an 'i2v.config' of {len(text)} characters"
        raise CheckpointError(f"its header has {found}; download or copy it again")
    try:
        values = parse_json(text, "its 'i2v.config'")
    except TextFileError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(values, dict):
        raise CheckpointError("its 'i2v.config' should be an object")
    return values


def decode_config(kinds: tuple[type[C], ...], values: Any) -> C:
    """Make a configuration from the JSON form that `dataclasses.asdict` and `json` give it.

    Args:
        kinds: the configuration is of one of these types, told apart by the names of their fields.

    Raises CheckpointError naming what is unknown (a newer version wrote it), missing or of the wrong type.
    """
    try:
        if len(kinds) == 1:
            return decode(kinds[0], values, kinds[0].__name__)
        config: C = decode_any(kinds, values, kinds[0].__name__)
        return config
    except UnknownKeyError as error:
        raise CheckpointError(f"in its header, {error} A newer version wrote it: update this pack") from error
    except DecodingError as error:
        raise CheckpointError(f"in its header, {error}") from error
