"""Text files in every encoding are read alike; what is too large, too deep or no text gets one sentence."""

import codecs
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from i2v_core import text_files
from i2v_core.text_files import (
    Row,
    TextFileError,
    parse_json,
    parse_toml,
    read_csv,
    read_json,
    read_json_lines,
    read_lines,
    read_text,
    read_toml,
)

TEXT = 'prompt = "Zoomfahrt über Öl 猫"\n'
ENCODINGS = {
    "utf-8": b"",
    "utf-8-marked": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "file"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_byte_order_mark_tells_the_encoding(encoding: str, file: Callable[[str | bytes], Path]) -> None:
    def encoded(text: str) -> Path:
        return file(ENCODINGS[encoding] + text.encode(encoding.removesuffix("-marked")))

    assert read_toml(encoded(TEXT)) == {"prompt": "Zoomfahrt über Öl 猫"}
    assert read_json(encoded('["ö", 2]')) == ["ö", 2]
    assert [row.value for row in read_json_lines(encoded('"ö"\r\n\r\n2\r3'))] == ["ö", 2, 3]
    assert [row.value for row in read_csv(encoded("text,path\r\nÖl,a.mp4\r\n"))] == [{"text": "Öl", "path": "a.mp4"}]
    assert read_lines(encoded("ä\r\nb\rc\n")) == ["ä", "b", "c"]


def test_only_line_feeds_and_carriage_returns_end_a_line(file: Callable[[str | bytes], Path]) -> None:
    lines = ["a\u2028b", "c\x0bd\x0ce", "", "f\x85g"]
    assert read_lines(file("\n".join(lines))) == lines
    assert [row.value["text"] for row in read_csv(file("\n".join(["text", *lines])))] == [lines[0], lines[1], lines[3]]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfe\x00\xd8", "no text in UTF-16-LE"),
        ("ok\nÖl".encode("cp1252"), r"no text in UTF-8 \(in line 2\)"),
        ("a pan".encode("utf-16-le"), "holds zero bytes"),
        (b"x" * (text_files.SIZE + 1), "larger than 1024 KiB"),
    ],
)
def test_what_is_no_small_text_is_refused(content: bytes, sentence: str, file: Callable[[str | bytes], Path]) -> None:
    path = file(content)
    with pytest.raises(TextFileError, match=sentence) as raised:
        read_text(path)
    assert str(raised.value).startswith(f"'{path}'")
    if len(content) < 100:
        with pytest.raises(TextFileError, match=r"text in|zero bytes"):
            list(read_csv(path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TextFileError, match="is no plain file"):
        read_text(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 50_000, "nested more than 64 deep in line 1"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested more than 64 deep"),
        ("[NaN]", "holds NaN: only finite"),
        ("[-Infinity]", "only finite"),
        ("[1e999]", "holds 1e999: only finite"),
        ("1" * 5000, r"111\.\.\. \(5000 digits\), which is beyond"),
        (str(10**30), "which is beyond"),
        (str(2**64), "which is beyond"),
        ('"\\ud800"', "surrogate"),
        ("[1,\n2,,]", "no valid JSON: .*line 2"),
    ],
)
def test_json_out_of_bounds_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(TextFileError, match=sentence):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = " + "[" * 50_000, "nested more than 64 deep in line 1"),
        ("a = 1\nb = " + "{b=" * 70, "nested more than 64 deep in line 2"),
        ("a." * 100_000 + "a = 1", "nested more than 64 deep"),
        ("a = {" + "b.b.b.b.b = {" * 20 + "}" * 21, "nested more than 64 deep"),
        ('a = ["""x"""", ' + "[" * 500, "nested more than 64 deep"),
        ("a = ['''x'''', " + "[" * 500, "nested more than 64 deep"),
        ("a = nan", "holds nan: only finite"),
        ("a = 1e999", "only finite"),
        ("a = " + "9" * 5000, "more than 100 digits in line 1"),
        (f"a = {10**30}", "beyond -2"),
        ("a = 2024-02-31", "no valid TOML"),
        ("[train\n", "no valid TOML: .*line 1"),
    ],
)
def test_toml_out_of_bounds_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(TextFileError, match=sentence):
        parse_toml(text)


def test_what_stands_in_strings_and_comments_is_not_counted() -> None:
    brackets, digits = "[" * 500 + "." * 500, "9" * 500
    assert parse_json(json.dumps([brackets, f'\\"{brackets}', digits])) == [brackets, f'\\"{brackets}', digits]
    toml = (
        f'# {brackets}{digits}\na = "{brackets}\\"{digits}" # it\'s\nb = \'{brackets}\\\'\nc = """\n{brackets}"""""\n'
    )
    assert parse_toml(toml) == {"a": f'{brackets}"{digits}', "b": f"{brackets}\\", "c": f'{brackets}""'}
    assert parse_json(f"[{2**64 - 1}, {-(2**63)}, 1.5]") == [2**64 - 1, -(2**63), 1.5]


def test_tables_tell_lines(file: Callable[[str | bytes], Path]) -> None:
    rows = list(read_csv(file('text,path\n"two\nlines",a\n\nalone\nb,c\n')))
    assert rows == [
        Row(2, {"text": "two\nlines", "path": "a"}),
        Row(5, problem="has 1 cells, the header 2"),
        Row(6, {"text": "b", "path": "c"}),
    ]
    with pytest.raises(TextFileError, match=r"the row in line 3 of '.*' is no CSV"):
        list(read_csv(file('text,path\na,b\n"not closed,c\nd,e\n')))
    with pytest.raises(TextFileError, match=r"the row in line 2 .*131072"):
        list(read_csv(file("text\n" + "x" * 200_000)))
    with pytest.raises(TextFileError, match=r"line 2 of '.*' has more than 1048576 characters"):
        list(read_csv(file("text\n" + "x" * (text_files.LINE + 1))))
    with pytest.raises(TextFileError, match="columns a, b; expected one of text, path"):
        list(read_csv(file("a,b\n"), ("text", "path")))
    with pytest.raises(TextFileError, match="two columns of one name"):
        list(read_csv(file("a,a\n")))
    with pytest.raises(TextFileError, match="is empty"):
        list(read_csv(file("\n")))
    assert list(read_json_lines(file('{}\n{"a":\n2'))) == [
        Row(1, {}),
        Row(2, problem="it is no valid JSON: Expecting value: line 2 column 1 (char 6)"),
        Row(3, 2),
    ]
