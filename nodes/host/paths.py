"""Paths that a workflow names: below the host's own folders alone, under names that every system takes.

A workflow comes from anywhere, so what it names is checked before anything is opened, by the strictest rules of Linux,
macOS and Windows at once: the same workflow does the same everywhere.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

import folder_paths

NOT_DATA = frozenset({"custom_nodes", "configs"})  # kinds of the host's that hold code
FORBIDDEN = frozenset('<>:"|?*\\/')
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
LONGEST_NAME = 255  # bytes on Linux, UTF-16 units on Windows and macOS
LONGEST_PATH = 259 if os.name == "nt" else 4095
SUFFIXES = 40  # letters that the pack adds to a name: counters, checkpoints, endings


def checked_name(name: str, what: str) -> str:
    """A name for a file on every system, with room for what is appended to it.

    Args:
        what: the input that it comes from, for the sentence.

    Raises ValueError for anything else.
    """
    if problem := _problem(name, SUFFIXES):
        raise ValueError(f"{what} must be a plain name, such as 'my_look_back', got {_shown(name)}: {problem}.")
    return name


def checked_prefix(prefix: str, what: str, root: str) -> str:
    """Check a prefix of new files below a folder of the host: names with slashes between them, such as `I2V/clip`.

    Raises ValueError for anything else, and for a folder that is a link to elsewhere.
    """
    parts = re.split(r"[/\\]", prefix) if os.name == "nt" else prefix.split("/")
    problems = (_problem(part, SUFFIXES) for part in parts)
    if problem := next(filter(None, problems), None):
        raise ValueError(
            f"{what} must name a file below the output folder, such as 'I2V/clip', got {_shown(prefix)}: {problem}."
        )
    path = Path(root, *parts)
    if len(str(path)) + SUFFIXES > LONGEST_PATH:
        raise ValueError(f"{what} makes a path that is too long for this system: choose a shorter one.")
    if not _is_below(path.parent, [Path(root)]):
        raise ValueError(f"{what} leads out of the output folder by a link, got {_shown(prefix)}: choose another.")
    return "/".join(parts)


def existing_path(text: str, what: str) -> Path:
    """A file or folder that is there: below the input folder, or a full path below a folder of the host.

    Raises ValueError for anything else, in the same words whether or not something is there.
    """
    path = _written(text, what)
    if not _is_below(path, allowed_folders()):
        raise ValueError(_outside(text, what))
    if not path.exists():
        raise ValueError(f"{what}: there is no '{path}' in ComfyUI's folders: put it below the input folder.")
    return path


def allowed_folders() -> list[Path]:
    """Input, output and temp, and every folder of models that the host knows."""
    roots = [folder_paths.get_input_directory(), folder_paths.get_output_directory(), folder_paths.get_temp_directory()]
    kinds = (folders for kind, (folders, *_) in folder_paths.folder_names_and_paths.items() if kind not in NOT_DATA)
    return [Path(root) for root in dict.fromkeys([*roots, *(folder for folders in kinds for folder in folders)])]


def _written(text: str, what: str) -> Path:
    """The path as it is written, with nothing opened: a look at a network path would already tell a server who we are.

    Raises ValueError for names that no file of ours has, and for a full path outside of the host's folders.
    """
    written = PurePath(text)
    root = next((root for root in allowed_folders() if _starts_with(written, root)), None)
    if root is None and (written.anchor or text.startswith(("\\", "/", "~"))):
        raise ValueError(_outside(text, what))
    base = Path(folder_paths.get_input_directory()) if root is None else root
    parts = written.parts if root is None else written.parts[len(root.absolute().parts) :]
    if problem := next(filter(None, (_problem(part) for part in parts)), None):
        raise ValueError(f"{what} must name a folder below the input folder, got {_shown(text)}: {problem}.")
    return Path(base.absolute(), *parts)


def _starts_with(path: PurePath, root: Path) -> bool:
    own, wanted = (tuple(map(os.path.normcase, each)) for each in (path.parts, root.absolute().parts))
    return own[: len(wanted)] == wanted


def _is_below(path: Path, roots: list[Path]) -> bool:
    """A path ends below one of the folders once every link is followed."""
    try:
        found = path.resolve()
        return any(found == own or own in found.parents for own in _resolved(roots))
    except (OSError, RuntimeError):  # a circle of links
        return False


def _resolved(roots: list[Path]) -> Iterator[Path]:
    for root in roots:
        yield root.resolve()


def _problem(name: str, room: int = 0) -> str | None:
    """Why no file can have this name on some system; None if all take it."""
    if name in ("", ".", ".."):
        return "it has an empty part, '.' or '..'"
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return "half of a surrogate pair is no letter"
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name):
        return "control characters are no part of a name"
    if found := sorted(FORBIDDEN & set(name)):
        return f"Windows and other systems keep {found[0]} for themselves"
    if name[0] in ". " or name[-1] in ". ":
        return "a name begins with no dot and no blank, and ends with neither"
    if DEVICE.fullmatch(name.partition(".")[0].rstrip()):
        return "Windows keeps this name for a device"
    if max(len(name.encode()), len(name.encode("utf-16-le")) // 2) + room > LONGEST_NAME:
        return f"it is longer than {LONGEST_NAME - room} bytes"
    return None


def _outside(text: str, what: str) -> str:
    return (
        f"{what}: {_shown(text)} is outside of ComfyUI's input, output, models and temp folders, and a workflow may "
        "name nothing else: move it there, or use python -m i2v_core on the command line."
    )


def _shown(text: str) -> str:
    """A text for a sentence: one line, of bounded length, that every terminal can print."""
    printable = printed(text)
    return f"'{printable}'" if len(printable) <= 80 else f"'{printable[:77]}...'"


def printed(text: str) -> str:
    """A text in letters that every log can write: others, such as half of a surrogate pair, become question marks."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
