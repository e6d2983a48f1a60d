"""Writing video files, animations and numbered pictures, one frame at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar, cast

import av
import torch
from av.container import OutputContainer
from av.video.stream import VideoStream
from torch import Tensor

from ..files import StrPath, atomic_folder, atomic_path
from .audio import Audio, AudioTrack
from .color import tag_bt709
from .embed import embed_in_png, embed_in_webp
from .formats import FORMATS, VideoFormat
from .frames import check_picture, to_rgb
from .gif import to_palette
from .index import as_fps
from .planes import PixelFormat, to_frame

Frames = Iterable[Tensor]
OnFrame = Callable[[int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Encoding:
    """Settings of the encoder.

    `format` is a key of `FORMATS`, `crf` H.264's measure of quality (0 to 51, 17 looks lossless) that other formats
    translate, `bits` per channel (None is the format's usual depth), and `plays` how often an animation plays, 0
    meaning endlessly; other files play once.

    Raises:
        ValueError: an unknown format, a number out of range, or a depth that the format does not have.
    """

    format: str = "mp4 h264"
    crf: int = 17
    bits: int | None = None
    plays: int = 0

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"Expected a format among {', '.join(FORMATS)}, got '{self.format}'.")
        if not 0 <= self.crf <= 51 or self.plays < 0:
            raise ValueError(f"Expected a crf from 0 to 51 and plays from 0 on, got {self.crf} and {self.plays}.")
        if self.bits is not None and self.bits not in (depths := self.how.depths):
            offered = " or ".join(map(str, depths))
            raise ValueError(f"'{self.format}' has {offered} bits per channel, asked for {self.bits}. Choose those.")

    @property
    def how(self) -> VideoFormat:
        return FORMATS[self.format]

    def pixels(self, *, alpha: bool) -> PixelFormat:
        """Return the pixel format for frames with or without transparency."""
        offered = self.how.alpha if alpha and self.how.alpha else self.how.pixels
        return next(pixels for pixels in offered if self.bits in (None, pixels.bits))


@dataclass(frozen=True)
class WrittenVideo:
    """A written file, or folder of pictures; its sides have grown where the format wants even ones.

    `shown` is the file, or the first picture.
    """

    path: Path
    shown: Path
    frames: int
    height: int
    width: int
    fps: Fraction


def write_video(
    path: StrPath,
    frames: Frames,
    fps: Fraction | float,
    encoding: Encoding = Encoding(),
    *,
    audio: Audio | None = None,
    metadata: Mapping[str, str] | None = None,
    on_frame: OnFrame | None = None,
) -> WrittenVideo:
    """Write frames as one file (lossy video in BT.709 and tagged so, index at the start of mp4 and mov), atomically.

    Args:
        path: name ending in the format's suffix; an existing file is replaced, an existing folder is not.
        frames: pictures `h w c` with c 1, 3 or 4, uint8 or floating point in [0, 1] (overshoot is clamped), all of
            one size, on any device, taken one at a time. A tensor `t h w c` is such an iterable. Formats without
            transparency lay it over white. GIF takes the frames twice, so a generator will not do.
        fps: frames per second, see `as_fps`.
        audio: cut, or filled up with silence, to the length of the pictures; formats without sound leave it out.
        metadata: strings stored in the file under these keys, in the first picture of a sequence.
        on_frame: called with the number of frames encoded so far; what it raises cancels, and leaves no file.

    Raises:
        ValueError: no frames, sizes that differ, NaN, wrong channels, an argument out of range, a picture that the
            encoder does not take, or an encoder that this FFmpeg lacks.
        OSError: the folder is missing, not writable or full, as `atomic_path`.
    """
    path, rate, texts, how = Path(path), as_fps(fps), dict(metadata or {}), encoding.how
    _check(path, frames, rate, texts, encoding)
    place: AbstractContextManager[Path] = atomic_folder(path) if how.is_sequence else atomic_path(path)
    with place as temporary:
        with _open(temporary, encoding) as container:
            if how.embeds == "tags":
                container.metadata.update(texts)
            written = _Writer(container, rate, encoding, audio).write(path, frames, on_frame or (lambda _: None))
        if texts and how.embeds == "png":
            embed_in_png(temporary / _numbered(1) if how.is_sequence else temporary, texts)
        if texts and how.embeds == "webp":
            embed_in_webp(temporary, texts)
    return written


def play_order(count: int, *, pingpong: bool = False, times: int = 1) -> list[int]:
    """Return frame numbers in the order of playing; pingpong comes back without showing either end twice."""
    back = range(count - 2, 0, -1) if pingpong else ()
    return [*range(count), *back] * times


def _numbered(number: int | None = None) -> str:
    """The name of a picture in a sequence, or FFmpeg's pattern for them."""
    return "%05d.png" if number is None else f"{number:05d}.png"


def _check(path: Path, frames: Frames, rate: Fraction, texts: dict[str, str], encoding: Encoding) -> None:
    how, name = encoding.how, encoding.format
    if path.suffix.lower() != how.suffix and not how.is_sequence:
        raise ValueError(f"Expected a name ending in {how.suffix} for '{name}', got '{path.name}'.")
    if not all(isinstance(text, str) for entry in texts.items() for text in entry):
        raise ValueError("Expected strings as keys and values of metadata. Use json.dumps for other values.")
    if rate > how.fastest:
        raise ValueError(f"'{name}' plays at most {how.fastest} frames per second, got {float(rate):g}: choose fewer.")
    if how.encoder == "gif" and isinstance(frames, Iterator):
        raise ValueError("GIF takes the frames twice, once for its palette. Pass a tensor or a list, not a generator.")
    for encoder in (how.encoder, how.audio):
        if encoder is not None and encoder not in av.codecs_available:
            raise ValueError(
                f"This FFmpeg has no encoder {encoder}, which '{name}' needs. Update PyAV, whose version is "
                f"{av.__version__}, with `pip install -U av`, or choose another format."
            )


def _open(path: Path, encoding: Encoding) -> OutputContainer:
    how = encoding.how
    # A percent sign of the folder would count as a place for the number.
    target = str(path).replace("%", "%%") + f"/{_numbered()}" if how.is_sequence else str(path)
    loop = how.loop(encoding.plays) if how.loop else {}
    return av.open(target, "w", format=how.muxer, options={**how.muxer_options, **loop})


class _Writer:
    """Encodes frames into an open container."""

    def __init__(self, container: OutputContainer, rate: Fraction, encoding: Encoding, audio: Audio | None) -> None:
        self.container, self.rate, self.encoding = container, rate, encoding
        self.audio = audio if encoding.how.audio else None

    def write(self, path: Path, frames: Frames, on_frame: OnFrame) -> WrittenVideo:
        count, stream, track = 0, None, None
        for count, picture in enumerate(self._pictures(frames, on_frame), start=1):
            if stream is None:
                stream, track = self._add_streams(picture)
            picture.pts, picture.time_base = count - 1, 1 / self.rate
            with self._explained(picture):
                packets = stream.encode(picture)
            self.container.mux(packets)
            if track is not None:
                track.write_until(count / self.rate)
            on_frame(count)
        assert stream is not None  # frames without any raise before
        self._mux_rest(stream, count)
        if track is not None:
            track.finish()
        shown = path / _numbered(1) if self.encoding.how.is_sequence else path
        return WrittenVideo(path, shown, count, stream.height, stream.width, self.rate)

    def _mux_rest(self, stream: VideoStream, count: int) -> None:
        packets = stream.encode(None)
        if count < 3 and self.encoding.how.encoder == "libx265":
            for packet in packets:
                # x265 leaves the times of decoding unset in so short a clip; nothing is reordered in it.
                packet.dts = packet.pts
        self.container.mux(packets)

    def _pictures(self, frames: Frames, on_frame: OnFrame) -> Iterable[av.VideoFrame]:
        if self.encoding.how.encoder != "gif":
            return _one_ahead(to_frame(frame, self._pixels(frame)) for frame in self._checked(frames))
        # While the palette is counted nothing is encoded, but one may cancel.
        passes = iter((lambda: on_frame(0), lambda: None))
        return _one_ahead(to_palette(lambda: self._checked(frames, next(passes)), self.encoding.pixels(alpha=False)))

    def _pixels(self, frame: Tensor) -> PixelFormat:
        return self.encoding.pixels(alpha=frame.shape[-1] == 4)

    def _checked(self, frames: Frames, before: Callable[[], None] = lambda: None) -> Iterator[Tensor]:
        """The frames as RGB, or RGBA where the first one is and the format can hold it."""
        size, pixels = None, None
        for number, frame in enumerate(frames, start=1):
            before()
            if frame.ndim != 3:
                raise ValueError(f"Expected frames `h w c`, got shape {tuple(frame.shape)}. Pass a tensor `t h w c`.")
            if pixels is None:
                size, pixels = frame.shape[:2], self._pixels(frame)
            if frame.shape[:2] != size:
                sizes = f"Frame {number} is {tuple(frame.shape[:2])}, the first was {tuple(size or ())}."
                raise ValueError(f"{sizes} Fit all to one size.")
            yield _with_alpha(frame) if pixels.has_alpha else to_rgb(frame)
        if pixels is None:
            raise ValueError("Expected at least one frame to write, got none.")

    def _add_streams(self, picture: av.VideoFrame) -> tuple[VideoStream, AudioTrack | None]:
        how, settings = self.encoding.how, dict(self.encoding.how.settings(self.encoding.crf))
        has_alpha = any(component.is_alpha for component in picture.format.components)
        settings |= {**how.options, **(how.alpha_options if has_alpha else {})}
        stream = self.container.add_stream(how.encoder, rate=self.rate, options=settings)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = picture.height, picture.width, picture.format.name
        # Whole frames side by side are faster than slices, and compress better.
        stream.codec_context.thread_type = "FRAME"
        if how.codec_tag:
            stream.codec_context.codec_tag = how.codec_tag
        if not picture.format.is_rgb:
            tag_bt709(stream.codec_context)
        track = AudioTrack(self.container, how.audio, self.audio) if how.audio and self.audio else None
        with self._explained(picture):
            self.container.start_encoding()
        return stream, track

    @contextmanager
    def _explained(self, picture: av.VideoFrame) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise  # the disk, which atomic_path explains
            raise ValueError(
                f"FFmpeg's {self.encoding.how.encoder} does not take pictures of {picture.height}x{picture.width} at "
                f"{float(self.rate):g} frames per second ({error.strerror}). Choose another size or format."
            ) from error


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made in another thread while the last one is used."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, end)
        while (item := following.result()) is not end:
            following = pool.submit(next, items, end)
            yield cast(T, item)


def _with_alpha(frame: Tensor) -> Tensor:
    if frame.shape[-1] == 4:
        check_picture(frame)
        return frame
    color = to_rgb(frame)
    opaque = torch.full_like(color[..., :1], 255 if color.dtype == torch.uint8 else 1)
    return torch.cat((color, opaque), dim=-1)
