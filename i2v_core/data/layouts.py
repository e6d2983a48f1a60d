"""Finds clips and their captions in every layout that trainers are used to; which one it is, is seen from the files.

=============== =====================================================================================================
`files`         videos in folders, each with `NAME.txt` beside it; folders of pictures, each with `FOLDER.txt` beside it
                or `caption.txt` inside
`metadata`      `metadata.jsonl` (or any .jsonl given as the path), one object a line: the file under `file_name`,
                `video_path` or `video`, the caption under `text`, `caption` or `prompt`; or `metadata.json` or
                `dataset.json` (or any .json given), an array of such objects, or captions by file
`prompts`       `prompts.txt` and `videos.txt`, line by line
`csv`           a table with a header: WebVid's `videoid`, `page_dir` and `name`, or the columns of `metadata`
`shards`        WebDataset: .tar archives of `KEY.mp4` with `KEY.txt` or `KEY.json`
=============== =====================================================================================================
"""

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from ..decoding import shown
from ..files import StrPath
from ..text_files import (
    LARGE,
    SHOWN_COLUMNS,
    SIZE,
    Row,
    TextFileError,
    decode_text,
    parse_json,
    read_columns,
    read_csv,
    read_json,
    read_json_lines,
    read_lines,
    read_text,
)
from ..unusable import UNUSABLE, reason, shortened
from ..video.sources import FileSlice
from .captions import CaptionError, caption_of
from .media import FrameFolder, VideoMedia, is_picture, is_video, natural

FILE_KEYS = ("file_name", "video_path", "video", "path")
CAPTION_KEYS = ("text", "caption", "prompt")
TABLE_KEYS = ("videoid", *FILE_KEYS)
LISTS = ("metadata.json", "dataset.json")
TEXT_SUFFIXES = (".txt", ".TXT", ".Txt")
# What systems put beside people's files: thumbnails of Synology and QNAP, archives of macOS, bins and parts of Windows.
SYSTEM_FOLDERS = frozenset(("__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip as listed: what to call it, its frames, its caption (None: it has none), or why it is none.

    `note` is what was done to its caption, `text` the file of its own that holds it.
    """

    name: str
    media: VideoMedia | FrameFolder | None
    caption: str | None = None
    problem: str = ""
    note: str = ""
    text: Path | None = None


@dataclass(frozen=True)
class Listing:
    """The clips of a data set, in the order of their names, and the layout they were found in.

    `aside` has a sentence for each file that might have been a table of clips and is none.
    """

    layout: str
    root: Path
    entries: list[Entry]
    aside: tuple[str, ...] = ()


def list_entries(path: StrPath, image_fps: float | None = None, *, confined: bool = False) -> Listing:
    """List the clips below a folder, or those that a metadata file or an archive names.

    Args:
        confined: what lies outside of the folder, by its name or behind a link, is listed as a problem.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: no layout is recognized, or a table without the columns it needs.
    """
    given = Path(path)
    if not given.exists():
        raise FileNotFoundError(f"There is no data '{path}'. Set data.path to a folder or a metadata file.")
    root = given if given.is_dir() else given.parent
    aside: list[str] = []
    layout, entries = _layout(given, root, image_fps, aside)
    if confined:
        entries = (_confined(entry, root.resolve()) for entry in entries)
    listed = sorted(entries, key=lambda entry: natural(entry.name))
    if not listed:
        raise ValueError(
            f"'{path}' holds no clips. Expected videos with .txt captions, metadata.jsonl, prompts.txt with "
            "videos.txt, a WebVid .csv, .tar shards, or folders of pictures." + "".join(f" {each}." for each in aside)
        )
    return Listing(layout, root, listed, tuple(aside))


def _layout(given: Path, root: Path, image_fps: float | None, aside: list[str]) -> tuple[str, Iterable[Entry]]:
    """Name of the layout and its entries; what only looks like one gets a sentence in `aside`."""
    if given.is_file():
        return _of_file(given, root, image_fps)
    found = _by_suffix(given)
    if (lines := root / "metadata.jsonl").is_file():
        return "metadata", _from_jsonl(lines, root, image_fps)
    if (root / "videos.txt").is_file():
        return "prompts", _from_prompts(root, image_fps)
    unreadable: list[Entry] = []
    for path in (root / name for name in LISTS if (root / name).is_file()):
        if entries := _listed(path, image_fps, aside, unreadable):
            return "metadata", entries
    if tables := [table for table in found.get(".csv", []) if _is_table(table, aside, unreadable)]:
        return "csv", chain(_from_csv(tables, root, image_fps), unreadable)
    shards = [entry for archive in found.get(".tar", []) for entry in _from_tar(archive)]
    if any(entry.media is not None for entry in shards):
        return "shards", chain(shards, unreadable)
    files = list(_from_files(root, image_fps))
    if unreadable and not any(entry.caption for entry in files):  # its captions would be missing
        raise TextFileError(f"'{given}': {unreadable[0].name} {unreadable[0].problem}")
    return "files", chain(files, shards, unreadable)


def _of_file(given: Path, root: Path, image_fps: float | None) -> tuple[str, Iterator[Entry]]:
    suffix = given.suffix.lower()
    if suffix == ".jsonl":
        return "metadata", _from_jsonl(given, root, image_fps)
    if suffix == ".json":
        return "metadata", _from_json(given, root, image_fps)
    if suffix == ".csv":
        read_columns(given, TABLE_KEYS)
        return "csv", _from_csv([given], root, image_fps)
    if suffix == ".tar":
        return "shards", _from_tar(given)
    raise ValueError(f"'{given}' is no data set. Expected a folder, or a .jsonl, .json, .csv or .tar file.")


def _listed(path: Path, image_fps: float | None, aside: list[str], unreadable: list[Entry]) -> list[Entry]:
    """The clips of a JSON file beside other files; none if it is about something else."""
    try:
        entries = list(_from_json(path, path.parent, image_fps))
    except ValueError as error:
        unreadable.append(Entry(path.name, None, problem=f"is no list of clips: {error}"))
        return []
    if any(not entry.problem or is_video(Path(entry.name)) for entry in entries):
        return entries
    aside.append(f"{path.name} names no clips: expected an array of objects, or captions by file")
    return []


def _is_table(path: Path, aside: list[str], unreadable: list[Entry]) -> bool:
    """A table beside other files names clips; one whose header cannot be read is an entry with a problem."""
    try:
        columns = read_columns(path)
    except TextFileError as error:
        unreadable.append(Entry(path.name, None, problem=f"is no table of clips: {error}"))
        return False
    if set(columns) & set(TABLE_KEYS):
        return True
    named = ", ".join(map(shown, columns[:SHOWN_COLUMNS]))
    aside.append(f"{path.name} has the columns {named}; clips would be under one of {', '.join(TABLE_KEYS)}")
    return False


def _confined(entry: Entry, root: Path) -> Entry:
    """The entry, or a problem if its file lies outside of the folder."""
    media = entry.media
    if media is None:
        return entry
    source = media.folder if isinstance(media, FrameFolder) else media.source
    files = [Path(source if isinstance(source, str) else source.path), *([entry.text] if entry.text else [])]
    if all(place == root or root in place.parents for place in (file.resolve() for file in files)):
        return entry
    return Entry(entry.name, None, problem="lies outside of the data's folder")


def _by_suffix(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: natural(path.name)):
        if path.is_file() and not path.name.startswith("."):
            found.setdefault(path.suffix.lower(), []).append(path)
    return found


def _from_files(root: Path, image_fps: float | None) -> Iterator[Entry]:
    for folder, names, files in os.walk(root, followlinks=True):
        here = Path(folder)
        names[:] = [name for name in names if not _is_system(name) and not _loops(here / name)]
        paths = [here / name for name in files if not name.startswith(".")]
        for path in paths:
            if is_video(path):
                yield _captioned(path.relative_to(root).as_posix(), VideoMedia(str(path)), path.with_suffix(""))
        pictures = sum(is_picture(path) for path in paths)
        # Pictures beside videos are their thumbnails, and those beside folders belong to a page about them.
        if pictures and not any(is_video(path) for path in paths) and not (here == root and names):
            name, media = here.relative_to(root).as_posix() + "/", FrameFolder(folder, image_fps)
            yield _captioned(name, media, here / "caption", here)


def _is_system(name: str) -> bool:
    """A folder is the system's and not its user's: hidden, `@eaDir` and its like, or of a known name."""
    return name.startswith((".", "@")) or name in SYSTEM_FOLDERS


def _loops(folder: Path) -> bool:
    """A link leads back to a folder that holds it."""
    return folder.is_symlink() and folder.resolve() in folder.absolute().parents


def _from_jsonl(path: Path, root: Path, image_fps: float | None) -> Iterator[Entry]:
    for row in read_json_lines(path):
        yield _row(row, f"{path.name} line {row.line}", root, image_fps)


def _from_json(path: Path, root: Path, image_fps: float | None) -> Iterator[Entry]:
    """Clips of an array of objects, which may be the only one in an object, or of captions by file."""
    content = read_json(path, limit=LARGE)
    if isinstance(content, dict):
        arrays = [value for value in content.values() if _is_array_of_objects(value)]
        content = arrays[0] if len(arrays) == 1 else content
    if isinstance(content, dict):
        rows = [
            {"file_name": name} | (value if isinstance(value, dict) else {"text": value})
            for name, value in content.items()
        ]
    elif isinstance(content, list):
        rows = content
    else:
        raise ValueError(f"'{path}' is no list of clips. Expected an array of objects, or captions by file.")
    for number, row in enumerate(rows, start=1):
        yield _row(Row(number, row), f"{path.name} item {number}", root, image_fps)


def _is_array_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _from_prompts(root: Path, image_fps: float | None) -> Iterator[Entry]:
    prompts = next((root / name for name in ("prompts.txt", "prompt.txt") if (root / name).is_file()), None)
    if prompts is None:
        raise ValueError(f"'{root}' has videos.txt without prompts.txt. Expected both, line by line.")
    texts, videos = (read_lines(path) for path in (prompts, root / "videos.txt"))
    while videos and not videos[-1].strip():
        videos.pop()
    if len(videos) > len(texts) or any(text.strip() for text in texts[len(videos) :]):
        raise ValueError(f"'{root}' has {len(videos)} lines in videos.txt and {len(texts)} in {prompts.name}.")
    for number, (text, video) in enumerate(zip(texts, videos, strict=False), start=1):
        row = Row(number, {"file_name": video.strip(), "text": text})
        yield _row(row, f"videos.txt line {number}", root, image_fps)


def _from_csv(tables: list[Path], root: Path, image_fps: float | None) -> Iterator[Entry]:
    for path in tables:
        try:
            for row in read_csv(path, TABLE_KEYS):
                yield _row(row, f"{path.name} line {row.line}", root, image_fps)
        except TextFileError as error:  # what follows cannot be told apart
            yield Entry(path.name, None, problem=f"cannot be read to its end: {error}")


def _row(read: Row, place: str, root: Path, image_fps: float | None) -> Entry:
    """The entry of one row of a table, from its file and caption columns."""
    row = read.value
    if read.problem or not isinstance(row, Mapping):
        return Entry(place, None, problem=read.problem or "is no JSON object")
    file = next((row[key] for key in FILE_KEYS if isinstance(row.get(key), str) and row[key].strip()), None)
    if file is None and row.get("videoid"):
        file = "/".join(part for part in (row.get("page_dir"), f"{row['videoid']}.mp4") if part)
    if file is None:
        return Entry(place, None, problem=f"names no file under {', '.join(FILE_KEYS)}")
    try:
        caption, note = caption_of(row, CAPTION_KEYS)
        if caption is None and row.get("videoid"):
            caption = str(row.get("name") or "").strip() or None
        file, path = _place(file, root)
        media = FrameFolder(str(path), image_fps) if path.is_dir() else VideoMedia(str(path))
        if not path.exists():
            return Entry(file, media, caption, "does not exist")
    except CaptionError as error:
        return Entry(file, None, problem=str(error))
    except UNUSABLE as error:
        # A caption in the column of the file is too long for a name.
        return Entry(place, None, problem=f"names no file: '{shortened(file)}' ({reason(error)})")
    if caption is None:
        return _captioned(file, media, path if path.is_dir() else path.with_suffix(""))
    return Entry(file, media, caption, note=note)


def _place(file: str, root: Path) -> tuple[str, Path]:
    """A file that a table names, also by the separators of Windows, and where it lies; `root / file` if nowhere."""
    names = dict.fromkeys((file, file.replace("\\", "/")))
    # WebVid's files lie in `videos/` beside its table.
    places = ((name, folder / name) for name in names for folder in (root, root / "videos"))
    return next(((name, place) for name, place in places if place.exists()), (file, root / file))


def _from_tar(archive: Path) -> Iterator[Entry]:
    try:
        # "r:" refuses compression, which has no exact places to seek to.
        with tarfile.open(archive, "r:") as members:
            files = [member for member in members if member.isfile()]
            files = [member for member in files if not any(map(_is_system, PurePosixPath(member.name).parts))]
            texts = {
                _lower_suffix(member.name): _read_member(members, member) for member in files if _is_text(member.name)
            }
    except tarfile.TarError as error:
        yield Entry(archive.name, None, problem=f"cannot be read as an uncompressed tar archive ({error})")
        return
    for member in files:
        if is_video(Path(member.name)):
            source = FileSlice(str(archive), member.offset_data, member.size, member.name)
            key = _key(member.name)
            name, media = f"{archive.name}/{member.name}", VideoMedia(source)
            try:
                caption, note = _tar_caption(texts, key)
            except CaptionError as error:
                yield Entry(name, media, problem=str(error))
            except TextFileError as error:
                yield Entry(name, media, problem=f"has no readable caption: {error}")
            else:
                yield Entry(name, media, caption, note=note)


def _key(name: str) -> str:
    """WebDataset's: everything before the first dot of the file name."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}" if folder else file.partition(".")[0]


def _is_text(name: str) -> bool:
    return name.lower().endswith((".txt", ".json"))


def _lower_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem + dot + suffix.lower()


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return b"" if stream is None else stream.read(SIZE + 1)


def _tar_caption(texts: Mapping[str, bytes], key: str) -> tuple[str | None, str]:
    """The caption under a key, from its text or from its JSON, and a note; None if there is none."""
    if plain := texts.get(f"{key}.txt"):
        return decode_text(plain, f"{key}.txt").strip() or None, ""
    file = f"{key}.json"
    row = parse_json(decode_text(texts[file], file), f"'{file}'") if file in texts else None
    return caption_of(row, CAPTION_KEYS) if isinstance(row, Mapping) else (None, "")


def _captioned(name: str, media: VideoMedia | FrameFolder, *places: Path) -> Entry:
    """A clip with the first caption that a text file at one of these places (without ending) holds.

    A text that cannot be read is the clip's problem.
    """
    names = (place.with_name(place.name + suffix) for place in places if place.name for suffix in TEXT_SUFFIXES)
    for file in filter(Path.is_file, names):
        try:
            text = read_text(file).strip()
        except TextFileError as error:
            return Entry(name, media, problem=f"has no readable caption: {error}", text=file)
        if text:
            return Entry(name, media, text, text=file)
    return Entry(name, media)
