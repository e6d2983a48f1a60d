"""Training configurations as TOML: reading, overriding single keys, and writing the resolved whole."""

import json
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ..data.datasets import DATASETS, kind_of
from ..files import StrPath, atomic_path
from ..weights import CheckpointError
from ..weights.configs import decode_config
from .config import TrainingConfig

C = TypeVar("C")
LINE = 100  # characters of a list before it takes a line for each item


def read_config(path: StrPath, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a training configuration from TOML.

    Args:
        overrides: single keys such as "train.max_train_steps=200", which replace the file's.

    Raises:
        ValueError: the file is no TOML, a key is unknown (with its nearest neighbor), missing, or of the wrong type.
        OSError: the file cannot be read.
    """
    try:
        values = parse_toml(Path(path).read_text(encoding="utf-8"))
        for override in overrides:
            _override(values, override)
        return parse_config(values)
    except ValueError as error:
        raise ValueError(f"Cannot use '{path}': {error}") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Tables and values of TOML; raises ValueError for anything else."""
    if sys.version_info >= (3, 11):  # here, because a host of the nodes may have neither, and need it for training only
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is no valid TOML: {error}") from error


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
    data = dict(values.pop("data", {}))
    kind = data.pop("kind", "moving_crops")
    if kind not in DATASETS:
        raise ValueError(f"there is no data.kind '{kind}'; choose one of {', '.join(DATASETS)}")
    decoded = decode_options(DATASETS[kind].config, data, "data")
    return decode_options(TrainingConfig, {**values, "data": decoded}, "")


def decode_options(kind: type[C], values: Mapping[str, Any], place: str) -> C:
    """Make a configuration; `place` is the dotted name of its table, for what is raised.

    Raises ValueError for a key that is unknown, naming the nearest one, missing, or of the wrong type.
    """
    known = list(_keys(kind, place))
    for key in _given(kind, values, place):
        if key not in known:
            raise ValueError(f"there is no key '{key}'{_nearest(key, known)}")
    try:
        return decode_config(kind, _complete(kind, values))
    except CheckpointError as error:
        raise ValueError(f"{place or 'the configuration'}: {error}") from error


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


def _nested(hint: Any) -> type[Any] | None:
    """The dataclass that a hint names, alone or beside None."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((option for option in options if is_dataclass(option) and isinstance(option, type)), None)


def _keys(kind: type[Any], place: str) -> Iterator[str]:
    """All keys of a configuration, with those of nested ones, dotted."""
    hints = get_type_hints(kind)
    for entry in fields(kind):
        key = f"{place}.{entry.name}" if place else entry.name
        yield key
        if nested := _nested(hints[entry.name]):
            yield from _keys(nested, key)


def _given(kind: type[Any], values: Mapping[str, Any], place: str) -> Iterator[str]:
    """The keys of some values, dotted; free tables are not looked into."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        key = f"{place}.{name}" if place else name
        yield key
        nested = _nested(hints.get(name))
        if nested and isinstance(value, Mapping):
            yield from _given(nested, value, key)


def _complete(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Put None where it may stand and a value is missing, because TOML cannot say it."""
    hints, complete = get_type_hints(kind), dict(values)
    for entry in fields(kind):
        hint, nested = hints[entry.name], _nested(hints[entry.name])
        given = complete.get(entry.name)
        if nested and isinstance(given, Mapping):
            complete[entry.name] = _complete(nested, given)
        elif entry.default is MISSING and entry.default_factory is MISSING and type(None) in get_args(hint):
            complete.setdefault(entry.name, None)
    return complete


def _nearest(key: str, known: Sequence[str]) -> str:
    """What was probably meant: the same word elsewhere, or the most similar key."""
    word = key.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == word]
    close = same or get_close_matches(key, known, n=1, cutoff=0.0)
    return f"; did you mean '{close[0]}'?" if close else ""


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
