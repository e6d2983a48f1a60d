"""The one reader of small text files: TOML, JSON, JSON lines, CSV tables, captions and prompts.

A byte order mark tells the encoding (UTF-8, UTF-16, UTF-32); without one it is UTF-8. Size, nesting and numbers are
bounded before anything recurses or allocates by what the file says. Lines end at \\n, \\r\\n and \\r, and nowhere else.
"""

import codecs
import csv
import io
import json
import math
import re
import stat
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from .decoding import shown
from .files import StrPath

SIZE = 1 << 20  # bytes of what people write: a caption, a story, a configuration
LARGE = 1 << 26  # bytes of what programs write: frame times of a long clip, captions by name
LINE = 1 << 20  # characters of one line of a table, which is read row by row and may have any length
DEPTH, DIGITS, KEYS = 64, 100, 64
SHOWN_COLUMNS = 12
INTEGERS = range(-(2**63), 2**64)  # seeds of the host go up to 2^64 - 1

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, with whose mark it begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
# What stands between strings and comments, and what ends each of those. Escapes are passed over whole.
_JSON_TOKENS = re.compile(r'["\[\]{}]')
_TOML_TOKENS = re.compile(rf'"""|\'\'\'|"|\'|#|[\n\[\]{{}}.=,]|[\d_]{{{DIGITS + 1},}}')
_ENDS = {
    '"': re.compile(r'\\.|["\n]', re.DOTALL),
    "'": re.compile(r"['\n]"),
    '"""': re.compile(r'\\.|"{3,5}', re.DOTALL),  # up to two quotes may stand before those that end it
    "'''": re.compile(r"'{3,5}"),
    "#": re.compile(r"\n"),
}


class TextFileError(ValueError):
    """A text file that cannot be used; the sentence says which, where and why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table or one line of JSON: where it begins (from 1), and what it says or what is wrong with it."""

    line: int
    value: Any = None
    problem: str = ""


def read_text(path: StrPath, *, limit: int = SIZE) -> str:
    """Read a whole text file of at most `limit` bytes.

    Raises:
        TextFileError: it is larger, no plain file, or no text.
        OSError: it cannot be opened.
    """
    _check_plain(path)
    with Path(path).open("rb") as stream:
        return decode_text(stream.read(limit + 1), str(path), limit=limit)


def decode_text(content: bytes, label: str, *, limit: int = SIZE) -> str:
    """Text of a file's content, without its byte order mark; raises TextFileError as `read_text`."""
    if len(content) > limit:
        raise TextFileError(f"'{label}' is larger than {limit >> 10} KiB: too much for a text of this kind")
    encoding, mark = _encoding(content)
    try:
        text = content[mark:].decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + len(_LINE_ENDS.findall(content[mark : mark + error.start].decode(encoding, errors="ignore")))
        raise TextFileError(_no_text(label, line, encoding)) from error
    if "\0" in text:
        raise TextFileError(f"'{label}' holds zero bytes: save it as UTF-8, or as UTF-16 with a byte order mark")
    return text


def split_lines(text: str) -> list[str]:
    """The lines of a text without their ends; a last line without an end counts, an empty one does not."""
    lines = _LINE_ENDS.split(text)
    return lines if lines[-1] else lines[:-1]


def read_lines(path: StrPath, *, limit: int = LARGE) -> list[str]:
    """The lines of a file; raises as `read_text`."""
    return split_lines(read_text(path, limit=limit))


def read_json(path: StrPath, *, limit: int = SIZE) -> Any:
    """Value of a JSON file; raises as `read_text`, and TextFileError as `parse_json`."""
    return parse_json(read_text(path, limit=limit), f"'{path}'")


def read_toml(path: StrPath) -> dict[str, Any]:
    """Tables and values of a TOML file; raises as `read_text`, and TextFileError as `parse_toml`."""
    return parse_toml(read_text(path), f"'{path}'")


def read_json_lines(path: StrPath) -> Iterator[Row]:
    """Each line of a file of JSON lines that is not empty; a line that is no JSON is a row with a problem.

    Raises as `read_csv`, but for what concerns columns.
    """
    for number, line in _lines(path):
        if line.strip():
            try:
                yield Row(number, parse_json(line))
            except TextFileError as error:
                yield Row(number, problem=str(error))


def read_csv(path: StrPath, needed: Collection[str] = ()) -> Iterator[Row]:
    """Each row of a CSV table with a header, as a mapping by column; a row of another length has a problem.

    Args:
        needed: the header must name one of these columns.

    Raises:
        TextFileError: no header, none of the needed columns, two of one name, a quote that is not closed, a cell of
            more than 131,072 characters or a line of more than a million, or no text in the file's encoding.
        OSError: it cannot be opened.
    """
    source = _Counted(_lines(path))
    rows = csv.reader(source, strict=True)
    header: list[str] | None = None
    while True:
        begins = source.line + 1
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise TextFileError(f"the row in line {begins} of '{path}' is no CSV: {error}") from error
        if cells is None:
            break
        if not cells:  # an empty line
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            _check_header(header, needed, path)
        elif len(cells) == len(header):
            yield Row(begins, dict(zip(header, cells, strict=True)))
        else:
            yield Row(begins, problem=f"has {len(cells)} cells, the header {len(header)}")
    if header is None:
        raise TextFileError(f"'{path}' is empty: expected a table whose first line names the columns")


def read_columns(path: StrPath, needed: Collection[str] = ()) -> list[str]:
    """The names in the header of a CSV table; raises as `read_csv`."""
    try:
        cells = next((cells for cells in csv.reader((line for _, line in _lines(path)), strict=True) if cells), None)
    except csv.Error as error:
        raise TextFileError(f"the header of '{path}' is no CSV: {error}") from error
    header = [cell.strip() for cell in cells or ()]
    if not header:
        raise TextFileError(f"'{path}' is empty: expected a table whose first line names the columns")
    _check_header(header, needed, path)
    return header


def parse_json(text: str, label: str = "it", *, finite: bool = True) -> Any:
    """Value of a JSON text; `finite` refuses NaN and infinities, which only our own logs may hold.

    Raises TextFileError, beginning with `label`: no JSON, nested deeper than 64, a number that is not finite or beyond
    -2^63..2^64-1, or half of a surrogate pair.
    """
    if text.count("[") + text.count("{") > DEPTH:
        _check_nesting(text, _JSON_TOKENS, label)

    def constant(name: str) -> float:
        return _float(name, label) if finite else float(name)

    try:
        value = json.loads(
            text, parse_constant=constant, parse_int=lambda digits: _integer(digits, label),
            parse_float=lambda digits: _float(digits, label),
        )  # fmt: skip
    except json.JSONDecodeError as error:
        raise TextFileError(f"{label} is no valid JSON: {error}") from error
    if re.search(r"\\u[dD][89a-fA-F]", text):
        _check_values(value, label)
    return value


def parse_toml(text: str, label: str = "it") -> dict[str, Any]:
    """Tables and values of a TOML text.

    Raises TextFileError, beginning with `label`: no TOML, nested deeper than 64, or a number out of range.
    """
    if sys.version_info >= (3, 11):  # here, because a host of the nodes may have neither, and need it for training only
        import tomllib
    else:
        import tomli as tomllib
    _check_nesting(text.replace("\r\n", "\n"), _TOML_TOKENS, label)
    try:
        values = tomllib.loads(text, parse_float=lambda digits: _float(digits, label))
    except tomllib.TOMLDecodeError as error:
        raise TextFileError(f"{label} is no valid TOML: {error}") from error
    except TextFileError:
        raise
    except ValueError as error:  # a date such as the 31st of February, which tomllib hands on as it comes
        raise TextFileError(f"{label} is no valid TOML: {error}") from error
    _check_values(values, label)
    return values


class _Counted:
    """Lines, and the number of the last one taken: the csv module counts what it has read, not where a row begins."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self.lines, self.line = lines, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.line, text = next(self.lines)
        return text


def _check_header(header: Sequence[str], needed: Collection[str], path: StrPath) -> None:
    columns = ", ".join(map(shown, header[:SHOWN_COLUMNS]))
    if needed and not set(header) & set(needed):
        raise TextFileError(f"'{path}' has the columns {columns}; expected one of {', '.join(needed)}")
    if len(set(header)) < len(header):
        raise TextFileError(f"'{path}' has two columns of one name: {columns}")


def _lines(path: StrPath) -> Iterator[tuple[int, str]]:
    """The lines of a file of any length with their ends, one at a time, and their numbers from 1."""
    _check_plain(path)
    with Path(path).open("rb") as stream:
        encoding, mark = _encoding(stream.read(4))
        stream.seek(mark)
        with io.TextIOWrapper(stream, encoding, newline="") as text:
            number = 0
            while line := _next_line(text, str(path), number + 1, encoding):
                number += 1
                yield number, line


def _next_line(text: TextIO, label: str, number: int, encoding: str) -> str:
    try:
        line = text.readline(LINE + 1)
    except UnicodeDecodeError as error:  # somewhere in the block that was read ahead
        raise TextFileError(_no_text(label, number, encoding, "in or after ")) from error
    if len(line) > LINE:
        raise TextFileError(f"line {number} of '{label}' has more than {LINE} characters")
    if "\0" in line:
        raise TextFileError(f"line {number} of '{label}' holds zero bytes: save the file as UTF-8")
    return line


def _encoding(head: bytes) -> tuple[str, int]:
    """Encoding of a file that begins so, and the length of its byte order mark."""
    return next(((name, len(mark)) for mark, name in MARKS if head.startswith(mark)), ("utf-8", 0))


def _no_text(label: str, line: int, encoding: str, where: str = "in ") -> str:
    return f"'{label}' is no text in {encoding.upper()} ({where}line {line}): save it as UTF-8"


def _check_plain(path: StrPath) -> None:
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a folder's own error says enough; a pipe would wait
        raise TextFileError(f"'{path}' is no plain file")


def _check_nesting(text: str, tokens: re.Pattern[str], label: str) -> None:
    """Refuse what parsers would recurse into, or count at, too long; strings and comments are passed over."""
    place, depth, keys = 0, 0, 0
    while found := tokens.search(text, place):
        place, token = found.end(), found[0]
        if token in _ENDS:
            place = _end(text, place, _ENDS[token])
        elif token in "[{":
            depth, keys = depth + 1, 0
        elif token in "]}":
            depth = max(0, depth - 1)
        elif token == ".":
            keys += 1
        elif token in "\n=,":
            keys = 0
        else:
            raise TextFileError(f"{label} has a number of more than {DIGITS} digits in line {_line_of(text, place)}")
        if depth > DEPTH or keys > KEYS:
            raise TextFileError(f"{label} is nested more than {DEPTH} deep in line {_line_of(text, place)}")


def _end(text: str, place: int, end: re.Pattern[str]) -> int:
    """End of the string or comment that begins before `place`."""
    while (found := end.search(text, place)) and found[0].startswith("\\"):
        place = found.end()
    return found.end() if found else len(text)


def _line_of(text: str, place: int) -> int:
    return 1 + len(_LINE_ENDS.findall(text[:place]))


def _integer(digits: str, label: str) -> int:
    if len(digits) > DIGITS or int(digits) not in INTEGERS:
        shown = digits if len(digits) < 40 else f"{digits[:12]}... ({len(digits)} digits)"
        raise TextFileError(f"{label} has the number {shown}, which is beyond -2^63 to 2^64-1")
    return int(digits)


def _float(digits: str, label: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise TextFileError(f"{label} holds {digits[:40]}: only finite numbers can be used")
    return value


def _check_values(values: Any, label: str) -> None:
    """Refuse what is nested too deep, integers out of range and text that no file can hold."""
    waiting = [(values, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEPTH:
            raise TextFileError(f"{label} is nested more than {DEPTH} deep")
        if isinstance(value, Mapping | list):
            inner = [*value, *value.values()] if isinstance(value, Mapping) else value
            waiting += [(each, depth + 1) for each in inner]
        elif type(value) is int and value not in INTEGERS:
            raise TextFileError(f"{label} has a number beyond -2^63 to 2^64-1")
        elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise TextFileError(f"{label} holds half of a surrogate pair, which is no letter")
