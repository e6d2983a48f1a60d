"""Configurations as JSON, so that a file says what it holds."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .files import CheckpointError

C = TypeVar("C")


def decode_config(kind: type[C], values: Any) -> C:
    """Make a configuration from the JSON form that `dataclasses.asdict` and `json` give it.

    Raises CheckpointError naming what is unknown (a newer version wrote it), missing or of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise CheckpointError(f"its {kind.__name__} should be an object, got {values!r}")
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - known.keys()):
        raise CheckpointError(
            f"its {kind.__name__} has the unknown entries {unknown} of a newer version; update this pack"
        )
    required = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    if missing := sorted(required - values.keys()):
        raise CheckpointError(f"its {kind.__name__} lacks {missing}")
    decoded = {}
    for name, value in values.items():
        decoded[name] = _decode(hints[name], value)
        if not _fits(hints[name], decoded[name]):
            raise CheckpointError(f"its {kind.__name__}.{name} should be {hints[name]}, got {value!r}")
    try:
        return kind(**decoded)
    except ValueError as error:
        raise CheckpointError(f"its {kind.__name__} is invalid: {error}") from error


def decode_any(kinds: tuple[type[Any], ...], values: Any) -> Any:
    """Make the configuration whose fields have the names of these values; the first kind if none has."""
    names = set(values) if isinstance(values, Mapping) else set()
    known = (kind for kind in kinds if names <= {field.name for field in fields(kind)})
    return decode_config(next(known, kinds[0]), values)


def _decode(hint: Any, value: Any) -> Any:
    options = [option for option in get_args(hint) if option is not type(None)]
    if get_origin(hint) in (Union, types.UnionType) and len(options) == 1 and value is not None:
        hint = options[0]
    if is_dataclass(hint) and isinstance(hint, type):
        return decode_config(hint, value)
    if isinstance(value, Mapping) and get_origin(hint) in (Union, types.UnionType):
        nested = [option for option in get_args(hint) if is_dataclass(option)]
        return decode_any(tuple(nested), value) if nested else value  # type: ignore[arg-type]
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    floats = float in (hint, *get_args(hint)) and int not in get_args(hint)  # `float` and `float | None`
    return float(value) if floats and type(value) is int else value


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(option, value) for option in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(arguments[0], item) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(_fits(arguments[1], item) for item in value.values())
    if hint is Any:
        return True
    if hint is int:
        return type(value) is int
    return isinstance(value, hint)
