"""Typed decoding: plain values of JSON or TOML become the frozen dataclass that they describe, or one sentence.

Weights headers, training configurations, stories and protocols all go through it.
"""

import math
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

C = TypeVar("C")
SHOWN = 60  # characters of a wrong value
SEEDS = (0, 2**63 - 1)  # what every generator of random numbers takes
RATES = (1e-3, 1e4)  # frames per second that a container can tell


class DecodingError(ValueError):
    """Values that are not what a configuration holds; the sentence names the key."""


class UnknownKeyError(DecodingError):
    """A key that the configuration has not, with the nearest that it has."""


def decode(kind: type[C], values: Any, place: str = "") -> C:
    """Make a configuration of the plain values that a file holds.

    Args:
        place: dotted name of the values' table, for what is raised.

    Raises DecodingError for a key that is unknown, naming the nearest one, or missing, and for a value of the wrong
    type, not finite, or that the configuration itself refuses.
    """
    if not isinstance(values, Mapping):
        raise _wrong(place or "the whole", "a table (an object)", values)
    known = list(_keys(kind, place))
    for key in _given(kind, values, place):
        if key not in known:
            raise UnknownKeyError(f"there is no key '{shown(key)}'{_nearest(key, known)}")
    hints = get_type_hints(kind)
    decoded = {name: _decode(hints[name], value, _key(place, name)) for name, value in values.items()}
    required = [entry.name for entry in fields(kind) if _is_required(entry, hints)]  # type: ignore[arg-type]
    if missing := [name for name in required if name not in decoded]:
        raise DecodingError(f"{place or 'the whole'} lacks {missing}")
    for entry in fields(kind):  # type: ignore[arg-type]
        if entry.default is MISSING and entry.default_factory is MISSING:
            decoded.setdefault(entry.name, None)  # which TOML cannot say
    try:
        return kind(**decoded)
    except (ValueError, ArithmeticError) as error:
        raise DecodingError(f"{place}: {error}" if place else str(error)) from error


def decode_any(kinds: Sequence[type[Any]], values: Any, place: str = "") -> Any:
    """Make the configuration whose fields have the names of these values; the first kind if none has."""
    names = set(values) if isinstance(values, Mapping) else set()
    known = (kind for kind in kinds if names <= {entry.name for entry in fields(kind)})
    return decode(next(known, kinds[0]), values, place)


def check_ranges(config: Any, place: str = "", **ranges: tuple[float, float]) -> None:
    """Refuse numbers of a configuration outside of their ranges, both ends included; None is no number.

    Raises ValueError that names the field, its range and what arrived.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            wanted = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise ValueError(f"{_key(place, name)} must be {wanted}, got {shown(value)}")


def shown(value: Any, most: int = SHOWN) -> str:
    """A value as a sentence quotes it, short and in one line."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= most else f"{text[:most]}..."


def _decode(hint: Any, value: Any, place: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _decode_union(hint, value, place)
    if is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else decode(hint, value, place)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_decode(arguments[0], item, f"{place}[{number}]") for number, item in enumerate(value))
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {name: _decode(arguments[1], item, _key(place, name)) for name, item in value.items()}
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    plain = (hint is int and type(value) is int) or (hint in (str, bool) and isinstance(value, hint))
    if plain or (origin is Literal and isinstance(value, str | int | bool) and value in arguments):
        return value
    raise _wrong(place, _words(hint), value)


def _decode_union(hint: Any, value: Any, place: str) -> Any:
    options = get_args(hint)
    if value is None and type(None) in options:
        return None
    nested = [option for option in options if is_dataclass(option) and isinstance(option, type)]
    if nested and isinstance(value, Mapping):
        return decode_any(nested, value, place)
    if isinstance(value, tuple(nested)):
        return value
    others = [option for option in options if option is not type(None) and option not in nested]
    for option in sorted(others, key=lambda option: option is float):  # a whole number stays one where it may
        try:
            return _decode(option, value, place)
        except DecodingError:
            if len(others) == 1:
                raise
    raise _wrong(place, _words(hint), value)


def _wrong(place: str, wanted: str, value: Any) -> DecodingError:
    return DecodingError(f"{place} should be {wanted}, got {shown(repr(value))}")


def _words(hint: Any) -> str:
    """A type as a sentence says it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(option) for option in arguments if option is not type(None))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        return f"a list, each {_words(arguments[0])}"
    plain = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false"}
    return plain.get(hint, "a table (an object)")


def _is_required(entry: Any, hints: Mapping[str, Any]) -> bool:
    has_default = entry.default is not MISSING or entry.default_factory is not MISSING
    return not has_default and type(None) not in get_args(hints[entry.name])


def _key(place: str, name: str) -> str:
    return f"{place}.{name}" if place else str(name)


def _nested(hint: Any) -> type[Any] | None:
    """The dataclass that a hint names, alone or beside None."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((option for option in options if is_dataclass(option) and isinstance(option, type)), None)


def _keys(kind: type[Any], place: str) -> Iterator[str]:
    """All keys of a configuration, with those of nested ones, dotted."""
    hints = get_type_hints(kind)
    for entry in fields(kind):
        key = _key(place, entry.name)
        yield key
        if nested := _nested(hints[entry.name]):
            yield from _keys(nested, key)


def _given(kind: type[Any], values: Mapping[str, Any], place: str) -> Iterator[str]:
    """The keys of some values, dotted; free tables are not looked into."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        key = _key(place, name)
        yield key
        nested = _nested(hints.get(name))
        if nested and isinstance(value, Mapping):
            yield from _given(nested, value, key)


def _nearest(key: str, known: Sequence[str]) -> str:
    """The most likely intended key: the same word elsewhere, or the most similar one."""
    word = key.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == word]
    close = same or get_close_matches(key[:SHOWN], known, n=1, cutoff=0.0)
    return f"; did you mean '{close[0]}'?" if close else ""
