"""Items that cannot be used: one error for audits, evaluations and training, which go through many.

Every reader of one item raises a ValueError such as `UnusableError`, or lets an OSError of the file system through;
a run names the item, counts it and goes on.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class UnusableError(ValueError):
    """One picture, video or row that cannot be used; the sentence says which one and why."""


# A loop over items catches these, and no others: what else is raised is a fault of ours.
UNUSABLE = (ValueError, OSError)


@contextmanager
def explained(name: object, kind: str) -> Iterator[None]:
    """Turn whatever a decoder of damaged bytes raises into an UnusableError that names the item.

    Pillow's readers answer damaged headers with whatever their parsers stumble over: struct.error, KeyError,
    ZeroDivisionError, SyntaxError and others, which none of them documents.
    """
    try:
        yield
    except (UnusableError, FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:
        raise UnusableError(f"'{name}' cannot be read as {kind} ({reason(error)}).") from error


def shortened(text: str, length: int = 60) -> str:
    """A text of a file for a sentence."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 3]}..."


def reason(error: BaseException) -> str:
    """The cause in one line, without the numbers of the operating system."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
