"""Opening media files: the first track that this FFmpeg decodes, and one sentence that names the file otherwise."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import av
from av.audio.stream import AudioStream
from av.codec.context import ThreadType
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from .sources import Source

_LOGGING = Lock()  # FFmpeg's level is one for the whole process


@contextmanager
def open_video(path: Source, threads: int = 0) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its first video stream that can be decoded, as `open_container`; ValueError if it has none."""
    with open_container(path) as container:
        # The cover picture of a sound file is a video stream to FFmpeg, but not to us.
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise ValueError(f"'{path}' holds no video stream. Choose a file with pictures, such as an mp4.")
        stream = next((each for each in streams if each.codec_context is not None), None)
        if stream is None:
            codec = codec_name(container, streams[0].index)
            raise ValueError(
                f"'{path}' holds pictures in '{codec}', which this FFmpeg cannot decode: convert it first."
            )
        stream.thread_type, stream.thread_count = ThreadType.AUTO, threads
        yield container, stream


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The first sound track that can be decoded; None if there is none."""
    return next((each for each in container.streams.audio if each.codec_context is not None), None)


@contextmanager
def open_container(path: Source) -> Iterator[InputContainer]:
    """Open a file; what FFmpeg cannot read inside the block is a ValueError naming the file."""
    try:
        with _readable(path) as readable, av.open(readable, "r") as container:
            yield container
    except av.FFmpegError as error:
        raise ValueError(
            f"'{path}' cannot be read as a video ({error.strerror}). Expected a whole mp4, mov, webm or mkv."
        ) from error


def codec_name(container: InputContainer, stream: int) -> str:
    """Codec of a stream without a decoder: FFmpeg's name, or the file's four letters where it has none."""
    with _LOGGING:
        # PyAV hides streams that it cannot decode; FFmpeg's own description, made as a log, names them.
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            text = container.dumps_format()  # type: ignore[attr-defined]
        finally:
            av.logging.set_level(level)
    found = re.search(rf"Stream #\d+:{stream}\b.*?: (?:Audio|Video): (\w+)(?: \((\S+) /)?", text)
    if found is None:
        return "an unknown codec"
    name, tag = found.groups()
    return str(tag or "an unknown codec") if name in ("none", "unknown") else str(name)


@contextmanager
def _readable(path: Source) -> Iterator[str | BinaryIO]:
    """A source that PyAV opens."""
    if not isinstance(path, str | os.PathLike):
        with path.open() as stream:
            yield stream
    elif Path(path).is_file():
        yield os.fspath(path)
    else:
        raise FileNotFoundError(f"There is no file '{path}'. Check the path.")
