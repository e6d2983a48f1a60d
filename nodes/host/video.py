"""Sources behind the host's VIDEO: a file, a video file in memory, several of them, or frames."""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import Any, Protocol

import torch
from comfy_api.latest import InputImpl
from torch import Tensor

from ...i2v_core.video import FitMode, FrameIndex, as_fps, fit_image, index_frames, read_audio, stream_frames
from ...i2v_core.video.sources import InMemory, Source

logger = logging.getLogger(__name__)

AudioDict = Mapping[str, Any]
Rectangle = tuple[int, int, int, int]  # left, top, width, height
_TICK = Fraction(1, 1_000_000)  # seconds, the unit of joined videos
_BACKWARDS = 32  # frames that are held at a time to be played backwards


class Footage(Protocol):
    """Frames that are addressed by number, and the sound beside them.

    Attributes:
        index: times of the frames.
        shape: height, width and channels of each.
    """

    @property
    def index(self) -> FrameIndex: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def stream(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        """These frames, ascending, one by one: `h w c` in uint8 or in [0, 1]."""

    def audio(self, start: float, seconds: float, *, padded: bool = True) -> AudioDict | None:
        """The sound beside a stretch as AUDIO, None if there is none; seconds after the first frame.

        A file's is as long as the stretch, unless it ends before and is not `padded` with silence.
        """


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames in memory: IMAGE `t h w c`, at so many a second, and AUDIO if any."""

    images: Tensor
    fps: Fraction | float
    sound: AudioDict | None = None

    @property
    def index(self) -> FrameIndex:
        rate, numbers = as_fps(self.fps), tuple(range(len(self.images)))
        return FrameIndex(numbers, numbers[:1], 1 / rate, rate, len(numbers) / rate)

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def stream(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        return (self.images[i] for i in numbers)

    def audio(self, start: float, seconds: float, *, padded: bool = True) -> AudioDict | None:
        if not self.sound:
            return None
        rate = self.sound["sample_rate"]
        waveform = self.sound["waveform"][..., round(start * rate) : round((start + seconds) * rate)]
        return {"waveform": waveform, "sample_rate": rate}


@dataclass(frozen=True)
class VideoFile:
    """A video file, decoded as it is asked for: its frames, and the part of each picture that the host's crop left."""

    source: Source
    index: FrameIndex
    crop: Rectangle

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.crop[3], self.crop[2], 3

    def stream(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        left, top, width, height = self.crop
        for frame in stream_frames(self.source, numbers, index=self.index):
            yield frame[top : top + height, left : left + width]

    def audio(self, start: float, seconds: float, *, padded: bool = True) -> AudioDict | None:
        sound = read_audio(self.source, self.index, start, seconds, padded=padded)
        return None if sound is None else {"waveform": sound[0][None], "sample_rate": sound[1]}


@dataclass(frozen=True)
class Joined:
    """Videos one behind the other, of one size, and a sound that goes before theirs."""

    parts: tuple[Footage, ...]
    index: FrameIndex
    sound: AudioDict | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.parts[0].shape

    def stream(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        begins = [0, *accumulate(len(part.index) for part in self.parts)]
        for begin, end, part in zip(begins, begins[1:], self.parts, strict=False):
            if mine := [number - begin for number in numbers if begin <= number < end]:
                yield from part.stream(mine)

    def audio(self, start: float, seconds: float, *, padded: bool = True) -> AudioDict | None:
        if self.sound is not None:
            return Frames(torch.empty(0), 1, self.sound).audio(start, seconds)
        found = [part.audio(0, float(part.index.duration)) for part in self.parts]
        sounds = [sound for sound in found if sound is not None]
        if not sounds:
            return None
        kinds = {(sound["sample_rate"], sound["waveform"].shape[1]) for sound in sounds}
        if len(kinds) > 1:
            raise ValueError("The joined videos have sound of different rates or channels. Convert them to one first.")
        [(rate, channels)] = kinds
        pieces = [
            torch.zeros(1, channels, round(part.index.duration * rate)) if sound is None else sound["waveform"]
            for part, sound in zip(self.parts, found, strict=True)
        ]
        return Frames(torch.empty(0), 1, {"waveform": torch.cat(pieces, -1), "sample_rate": rate}).audio(start, seconds)


@dataclass(frozen=True)
class Playback:
    """Frames of a footage in the order of playing, decoded anew each time and never all held."""

    footage: Footage
    order: Sequence[int]

    def __iter__(self) -> Iterator[Tensor]:
        for run in _runs(self.order):
            ascending = sorted(run)
            frames = self.footage.stream(ascending)
            yield from frames if run == ascending else reversed(list(frames))

    def __len__(self) -> int:
        return len(self.order)


def select(footage: Footage, numbers: Sequence[int], size: tuple[int, int] | None, mode: FitMode) -> Tensor:
    """These frames, ascending, as IMAGE `t h w c` in [0, 1], fitted to (height, width) if asked for."""
    once = sorted(set(numbers))
    height, width = size or footage.shape[:2]
    images = torch.empty(len(once), height, width, 3 if size else footage.shape[2])
    for image, frame in zip(images, footage.stream(once), strict=True):
        fitted = frame if size is None else fit_image(frame, *size, mode)
        image.copy_(fitted / 255 if fitted.dtype == torch.uint8 else fitted)
    return images if len(once) == len(numbers) else images[[once.index(number) for number in numbers]]


def open_images(images: Any, fps: float) -> Footage:
    """Take IMAGE at the rate given, or a VIDEO at its own.

    Raises ValueError for frames of another shape than `t h w c`, none, or a VIDEO that cannot be read.
    """
    footage = Frames(images, fps) if isinstance(images, Tensor) else open_video(images)
    if isinstance(footage, Frames) and (footage.images.ndim != 4 or not len(footage.images)):
        shape = tuple(footage.images.shape)
        raise ValueError(f"Expected frames `t h w c`, at least one frame, got shape {shape}: connect IMAGE or VIDEO.")
    return footage


def open_video(video: Any) -> Footage:
    """Find out what a VIDEO holds, with the edits that the host keeps in it; no more than a few frames are decoded.

    Raises ValueError if it cannot be read.
    """
    if isinstance(video, InputImpl.VideoFromComponents):
        return _components(video)
    if isinstance(parts := getattr(video, "videos", None), list) and parts:
        return _joined([open_video(part) for part in parts], getattr(video, "complete_audio", None))
    if not isinstance(video, InputImpl.VideoFromFile):
        return _components(video)
    source = video.get_stream_source()
    if isinstance(source, io.BytesIO):
        source = InMemory(source.getvalue())
    index = index_frames(source)
    for note in index.notes():
        logger.info("%s: %s", source, note)
    crop = _crop(video, index.look.height, index.look.width)
    # Edits of a host newer than those known here: only it can say what they give.
    return _components(video) if crop is None else VideoFile(source, _trimmed(index, video), crop)


def _components(video: Any) -> Frames:
    parts = video.get_components()
    return Frames(parts.images, Fraction(parts.frame_rate), parts.audio)


def _trimmed(index: FrameIndex, video: Any) -> FrameIndex:
    """The part that the host's Video Slice left (2026 and newer)."""
    if not hasattr(video, "get_active_trim_window"):
        return index
    start, seconds = map(Fraction, video.get_active_trim_window())
    return index.between(start, start + seconds if seconds else index.duration) if start or seconds else index


def _crop(video: Any, height: int, width: int) -> Rectangle | None:
    """The part of the picture that the host's edits leave; None if they are of a kind unknown here."""
    crop = getattr(video, "_VideoFromFile__crop", None)
    pending = hasattr(video, "has_pending_frame_edits") and video.has_pending_frame_edits()
    if crop is None and not pending:
        return 0, 0, width, height
    left, top, wide, high = crop or (0, 0, width, height)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    wide, high = min(wide, width - left), min(high, height - top)
    return (left, top, wide, high) if (wide, high) == tuple(video.get_dimensions()) else None


def _joined(parts: list[Footage], sound: AudioDict | None) -> Joined:
    rates, shapes = {part.index.fps for part in parts}, {part.shape for part in parts}
    if len(rates) > 1 or len(shapes) > 1:
        told = ", ".join(f"{part.shape[1]}x{part.shape[0]} at {float(part.index.fps):g} fps" for part in parts)
        raise ValueError(f"The joined videos differ in size or rate: {told}. Bring them to one first.")
    pts, begin = [], Fraction(0)
    for part in parts:
        pts += [round((begin + part.index.time(i)) / _TICK) for i in range(len(part.index))]
        begin += part.index.duration
    index = replace(parts[0].index, pts=tuple(pts), keyframes=(0,), time_base=_TICK, duration=begin, numbers=None)
    return Joined(tuple(parts), index, sound)


def _runs(order: Sequence[int]) -> Iterator[list[int]]:
    """Cut an order of playing into numbers that rise, and short stretches of those that fall."""
    run: list[int] = []
    for number in order:
        if run and not _goes_on(run, number):
            yield run
            run = []
        run.append(number)
    yield run


def _goes_on(run: list[int], number: int) -> bool:
    if len(run) > 1 and run[1] > run[0]:
        return number > run[-1]
    falls = number < run[-1] and len(run) < _BACKWARDS
    return falls or (len(run) == 1 and number > run[0])
