"""Finds clips and their captions in every layout that trainers are used to; which one it is, is seen from the files.

=============== =====================================================================================================
`files`         videos in folders, each with `NAME.txt` beside it; folders of pictures, each with `FOLDER.txt` beside it
                or `caption.txt` inside
`metadata`      `metadata.jsonl` (or any .jsonl given as the path), one object a line: the file under `file_name`,
                `video_path` or `video`, the caption under `text`, `caption` or `prompt`
`prompts`       `prompts.txt` and `videos.txt`, line by line
`csv`           a table with a header: WebVid's `videoid`, `page_dir` and `name`, or the columns of `metadata`
`shards`        WebDataset: .tar archives of `KEY.mp4` with `KEY.txt` or `KEY.json`
=============== =====================================================================================================
"""

import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import StrPath
from ..text_files import (
    SIZE,
    Row,
    TextFileError,
    decode_text,
    parse_json,
    read_csv,
    read_json_lines,
    read_lines,
    read_text,
)
from ..unusable import UNUSABLE, reason, shortened
from ..video.sources import FileSlice
from .media import FrameFolder, VideoFile, is_picture, is_video, natural

FILE_KEYS = ("file_name", "video_path", "video", "path")
CAPTION_KEYS = ("text", "caption", "prompt")


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip as listed: what to call it, its frames, its caption (None: it has none), or why it is none."""

    name: str
    media: VideoFile | FrameFolder | None
    caption: str | None = None
    problem: str = ""


@dataclass(frozen=True)
class Listing:
    """The clips of a data set, in the order of their names, and the layout they were found in."""

    layout: str
    root: Path
    entries: list[Entry]


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
    layout, entries = _layout(given, root, image_fps)
    if confined:
        entries = (_confined(entry, root.resolve()) for entry in entries)
    listed = sorted(entries, key=lambda entry: natural(entry.name))
    if not listed:
        raise ValueError(
            f"'{path}' holds no clips. Expected videos with .txt captions, metadata.jsonl, prompts.txt with "
            "videos.txt, a WebVid .csv, .tar shards, or folders of pictures."
        )
    return Listing(layout, root, listed)


def _layout(given: Path, root: Path, image_fps: float | None) -> tuple[str, Iterator[Entry]]:
    found = {given.suffix.lower(): [given]} if given.is_file() else _by_suffix(given)
    lines = given if given.suffix.lower() == ".jsonl" else root / "metadata.jsonl"
    if lines.is_file() and (given.is_dir() or lines == given):
        return "metadata", _from_jsonl(lines, root, image_fps)
    if given.is_dir() and (root / "videos.txt").is_file():
        return "prompts", _from_prompts(root, image_fps)
    if tables := found.get(".csv"):
        return "csv", _from_csv(tables, root, image_fps)
    if archives := found.get(".tar"):
        return "shards", (entry for archive in archives for entry in _from_tar(archive))
    if given.is_file():
        raise ValueError(f"'{given}' is no data set. Expected a folder, or a .jsonl, .csv or .tar file.")
    return "files", _from_files(root, image_fps)


def _confined(entry: Entry, root: Path) -> Entry:
    """The entry, or a problem if its file lies outside of the folder."""
    media = entry.media
    if media is None:
        return entry
    source = media.folder if isinstance(media, FrameFolder) else media.source
    place = Path(source if isinstance(source, str) else source.path).resolve()
    if place == root or root in place.parents:
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
        names[:] = [name for name in names if not name.startswith(".") and not _loops(here / name)]
        paths = [here / name for name in files if not name.startswith(".")]
        for path in paths:
            if is_video(path):
                yield _captioned(path.relative_to(root).as_posix(), VideoFile(str(path)), path.with_suffix(".txt"))
        pictures = sum(is_picture(path) for path in paths)
        # Pictures beside videos are their thumbnails, and those beside folders belong to a page about them.
        if pictures and not any(is_video(path) for path in paths) and not (here == root and names):
            name, media = here.relative_to(root).as_posix() + "/", FrameFolder(folder, image_fps)
            yield _captioned(name, media, here / "caption.txt", here.with_name(f"{here.name}.txt"))


def _loops(folder: Path) -> bool:
    """Whether a link leads back to a folder that holds it."""
    return folder.is_symlink() and folder.resolve() in folder.absolute().parents


def _from_jsonl(path: Path, root: Path, image_fps: float | None) -> Iterator[Entry]:
    for row in read_json_lines(path):
        yield _row(row, f"{path.name} line {row.line}", root, image_fps)


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
        for row in read_csv(path, ("videoid", *FILE_KEYS)):
            yield _row(row, f"{path.name} line {row.line}", root, image_fps)


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
    caption = _caption(row) or (row.get("name") if row.get("videoid") else None)
    try:
        # WebVid's files lie in `videos/` beside its table.
        path = next((found for folder in (root, root / "videos") if (found := folder / file).exists()), root / file)
        media = FrameFolder(str(path), image_fps) if path.is_dir() else VideoFile(str(path))
        problem = "" if path.exists() else "does not exist"
    except UNUSABLE as error:
        # A caption in the column of the file is too long for a name.
        return Entry(place, None, problem=f"names no file: '{shortened(file)}' ({reason(error)})")
    return Entry(file, media, (caption or "").strip() or None, problem)


def _from_tar(archive: Path) -> Iterator[Entry]:
    try:
        # "r:" refuses compression, which has no exact places to seek to.
        with tarfile.open(archive, "r:") as members:
            files = [member for member in members if member.isfile()]
            texts = {member.name: _read_member(members, member) for member in files if _is_text(member.name)}
    except tarfile.TarError as error:
        yield Entry(archive.name, None, problem=f"cannot be read as an uncompressed tar archive ({error})")
        return
    for member in files:
        if is_video(Path(member.name)):
            source = FileSlice(str(archive), member.offset_data, member.size, member.name)
            key = _key(member.name)
            name, media = f"{archive.name}/{member.name}", VideoFile(source)
            try:
                caption = _tar_caption(texts, key)
            except TextFileError as error:
                yield Entry(name, media, problem=f"has no readable caption: {error}")
            else:
                yield Entry(name, media, caption.strip() or None)


def _key(name: str) -> str:
    """WebDataset's: everything before the first dot of the file name."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}" if folder else file.partition(".")[0]


def _is_text(name: str) -> bool:
    return name.endswith((".txt", ".json"))


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return b"" if stream is None else stream.read(SIZE + 1)


def _tar_caption(texts: Mapping[str, bytes], key: str) -> str:
    """The caption under a key, from its text or from its JSON; empty if there is none."""
    if plain := texts.get(f"{key}.txt"):
        return decode_text(plain, f"{key}.txt")
    file = f"{key}.json"
    row = parse_json(decode_text(texts[file], file), f"'{file}'") if file in texts else None
    return (_caption(row) or "") if isinstance(row, Mapping) else ""


def _caption(row: Mapping[str, Any]) -> str | None:
    return next((row[key] for key in CAPTION_KEYS if isinstance(row.get(key), str)), None)


def _captioned(name: str, media: VideoFile | FrameFolder, *places: Path) -> Entry:
    """A clip with the first caption that one of these files holds; one that cannot be read is the clip's problem."""
    try:
        texts = (read_text(place).strip() for place in places if place.is_file())
        return Entry(name, media, next(filter(None, texts), None))
    except TextFileError as error:
        return Entry(name, media, problem=f"has no readable caption: {error}")
