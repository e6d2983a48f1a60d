"""Odd values for JSON and TOML, and what can be done to any file."""

import codecs
import json
import random
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Raw:
    """Text that stands in JSON as it is."""

    text: str


NUMBERS = ("0", "-1", "1", "2", "1.5", "-1e9", "1e308", "1e999", "9223372036854775807", "9223372036854775808",
    "18446744073709551616", "100000000", "1" + "0" * 30, "9" * 5000, "NaN", "-Infinity", "0.0", "1e-320")  # fmt: skip
TEXTS = ('""', '"x"', '"\\u0000"', '"\\ud800"', '"\u2028"', '"../../escape"', '"' + "y" * 3000 + '"', "null", "true")
STRUCTURES = ("[]", "{}", "[[1]]", '{"a": 1}', "[" * 70 + "]" * 70, "[" * 100_000, '{"a":' * 50_000, '[1, "a", null]')
FRAGMENTS = (*NUMBERS, *TEXTS, *STRUCTURES)


def dumped(value: Any, chance: random.Random) -> str:
    """JSON of a value with `Raw` in it."""
    marks: dict[str, str] = {}

    def marked(raw: Any) -> str:
        mark = f"raw {len(marks)} {chance.random()}"
        marks[json.dumps(mark)] = raw.text
        return mark

    text = json.dumps(value, default=marked)
    for mark, raw in marks.items():
        text = text.replace(mark, raw)
    return text


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def mutated(value: Any, chance: random.Random) -> Any:
    """A JSON value with a few places replaced, deleted, doubled or renamed."""
    value = json.loads(json.dumps(value))
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        path = chance.choice([place for place in places(value) if place] or [()])
        if not path:
            return Raw(chance.choice(FRAGMENTS))
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        _change(holder, path[-1], chance)
    return value


def _change(holder: Any, key: Any, chance: random.Random) -> None:
    how = chance.choice(("replace", "replace", "replace", "delete", "rename", "longer"))
    if how == "delete":
        del holder[key]
    elif how == "rename" and isinstance(holder, dict):
        holder[chance.choice((f"{key}x", str(key)[:-1], "surprise", "y" * 500, f"{key}.{10**8}.weight"))] = holder.pop(
            key
        )
    elif how == "longer" and isinstance(holder, list):
        holder += holder * chance.choice((1, 3, 500))
    else:
        holder[key] = Raw(chance.choice(FRAGMENTS))


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A file with bytes flipped, cut off, doubled or put in, or all of it in another encoding."""
    if not content:
        return b"\xff"
    how = chance.randrange(6)
    place = chance.randrange(len(content) + 1)
    if how == 0:
        return content[:place]
    if how == 1:
        changed = bytearray(content)
        for _ in range(chance.choice((1, 3, 30))):
            changed[chance.randrange(max(1, min(len(changed), 5000)))] = chance.randrange(256)
        return bytes(changed)
    if how == 2:
        return content[:place] + chance.randbytes(chance.choice((1, 10, 1000))) + content[place:]
    if how == 3:
        return content + content
    if how == 4:
        return content[:place] + content[place + chance.randrange(50) :]
    encoding = chance.choice(("utf-16-le", "utf-32-be", "utf-16-be"))
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-32-be": codecs.BOM_UTF32_BE, "utf-16-be": b""}[encoding]
    return mark + content.decode("latin-1").encode(encoding)
