"""Training configurations as TOML: reading, overriding single keys, and writing the resolved whole."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..data.datasets import DATASETS, kind_of
from ..decoding import decode, shown
from ..files import StrPath, atomic_path
from ..methods import METHODS
from ..text_files import parse_toml, read_toml
from .config import TrainingConfig

TIMING = ("target_fps", "frame_stride", "frame_stride_max")  # of section `data`
LINE = 100  # characters of a list before it takes a line for each item


def read_config(path: StrPath, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a training configuration from TOML.

    Args:
        overrides: single keys such as "train.max_train_steps=200", which replace the file's.

    Raises:
        ValueError: the file is no TOML, a key is unknown (with its nearest neighbor), missing, or of the wrong type.
        OSError: the file cannot be read.
    """
    values = read_toml(path)
    try:
        for override in overrides:
            _override(values, override)
        return parse_config(values)
    except ValueError as error:
        raise ValueError(f"Cannot use '{path}': {error}") from error


def merged(values: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """Values with further ones in their place or beside them, table by table.

    A `method` of another name, or `data` of another kind, replaces the whole section.
    """
    result = dict(values)
    for name, value in further.items():
        own = result.get(name)
        if not isinstance(own, Mapping) or not isinstance(value, Mapping) or _another(own, value):
            result[name] = value
        else:
            result[name] = merged(own, value)
    return result


def _another(own: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    return any(key in own and key in given and own[key] != given[key] for key in ("name", "kind"))


def parse_config(values: Mapping[str, Any]) -> TrainingConfig:
    """Make a configuration of what a TOML file holds; raises as `read_config`."""
    values = dict(values)
    given = values.pop("data", {})
    if not isinstance(given, Mapping):
        raise ValueError(f"data should be a section with keys of its own, got {shown(repr(given))}")
    data = dict(given)
    kind = data.pop("kind", "moving_crops")
    if not isinstance(kind, str) or kind not in DATASETS:
        raise ValueError(f"there is no data.kind '{shown(kind)}'; choose one of {', '.join(DATASETS)}")
    decoded = decode(DATASETS[kind].config, {**usual_data(kind, values.get("method"), data), **data}, "data")
    return decode(TrainingConfig, {**values, "data": decoded})


def usual_data(kind: str, method: Any, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Defaults of section `data` for clips from files, as the method's paper has them: one way of taking time."""
    name = method.get("name") if isinstance(method, Mapping) else None
    training = next((each.training for each in METHODS.values() if each.training and name in each.training.names), None)
    if kind != "files" or training is None:
        return {}
    taken = TIMING if any(given.get(key) is not None for key in TIMING) else ()
    return {key: value for key, value in training.data.items() if key not in taken}


def resolved(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as plain values, with all defaults."""
    return {**asdict(config), "data": {"kind": kind_of(config.data), **asdict(config.data)}}


def write_config(config: TrainingConfig, path: StrPath) -> None:
    """Write the resolved configuration as TOML; `read_config` reads it back."""
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(_toml(resolved(config), ())) + "\n", encoding="utf-8")


def _override(values: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    *tables, last = key.strip().split(".")
    if not equals or not tables:
        raise ValueError(f"expected section.key=value, got '{text}'")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ValueError(f"'{text}' sets a key below '{table}', which is no section")
    try:
        values[last] = parse_toml(f"value = {value}")["value"]
    except ValueError:  # words need no quotes here
        values[last] = value.strip()


def _toml(values: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[str]:
    """Lines of a table and those below it; what is None is left out."""
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    lines = [
        f"{_toml_key(name)} = {_toml_value(value)}"
        for name, value in values.items()
        if name not in tables and value is not None
    ]
    if lines and place:
        yield f"\n[{'.'.join(map(_toml_key, place))}]"
    yield from lines
    for name, table in tables.items():
        yield from _toml(table, (*place, name))


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name, ensure_ascii=False)


def _toml_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        items = [_toml_value(item) for item in value]
        line = ", ".join(items)
        return f"[{line}]" if len(line) < LINE else "[\n" + "".join(f"    {item},\n" for item in items) + "]"
    return json.dumps(value, ensure_ascii=False)  # numbers, true, false and strings are written as in JSON
