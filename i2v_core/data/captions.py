"""One caption from what tables and JSON files hold: text, numbers, alternatives, or texts by language."""

from collections.abc import Iterable, Mapping
from typing import Any

ENGLISH = ("en", "eng", "english")


class CaptionError(ValueError):
    """A caption whose meaning is not plain; the sentence says what it is."""


def caption_of(row: Mapping[str, Any], keys: Iterable[str]) -> tuple[str | None, str]:
    """The first caption under one of these keys that is not empty, and a note if it was chosen; None if all are.

    Raises CaptionError if it is neither text nor a number, list or object with text.
    """
    for key in keys:
        caption, note = _read(row.get(key), key)
        if caption:
            return caption, note
    return None, ""


def _read(value: Any, key: str) -> tuple[str, str]:
    if value is None:
        return "", ""
    if isinstance(value, str):
        return value.strip(), ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value), ""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        texts = [text for each in value if (text := each.strip())]
        return (texts[0], "several captions, the first is used") if len(texts) > 1 else ("".join(texts), "")
    if isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values()):
        return _in_one_language({name: text for name, each in value.items() if (text := each.strip())}, key)
    raise CaptionError(f"has a {type(value).__name__} under '{key}' that is no caption: expected text")


def _in_one_language(texts: Mapping[str, str], key: str) -> tuple[str, str]:
    """English, which the text encoders know, or the only one."""
    if len(texts) <= 1:
        return "".join(texts.values()), ""
    english = [text for name, text in texts.items() if name.lower().replace("_", "-").split("-")[0] in ENGLISH]
    if not english:
        names = ", ".join(list(texts)[:5])
        raise CaptionError(f"has texts by the names {names} under '{key}', none of them 'en': expected one text")
    return english[0], "captions in several languages, English is used"
