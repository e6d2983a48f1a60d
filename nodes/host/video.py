"""What lies behind the host's VIDEO: a file, a video file in memory, or frames."""

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from comfy_api.latest import InputImpl
from torch import Tensor

from ...i2v_core.video import FrameIndex, as_fps, fit_image, index_frames, read_audio, read_frames
from ...i2v_core.video.frames import FitMode
from ...i2v_core.video.sources import InMemory, Source


@dataclass(frozen=True)
class HostVideo:
    """A VIDEO whose frames are addressed by number, without decoding the others.

    Attributes:
        index: times of its frames.
        source: what is decoded; None for a VIDEO of frames in memory.
        components: its frames and sound then.
    """

    index: FrameIndex
    source: Source | None = None
    components: Any = None

    def frames(self, chosen: list[int], size: tuple[int, int] | None, mode: FitMode) -> Tensor:
        """These frames as IMAGE `t h w 3` in [0, 1]."""
        if self.source is not None:
            return read_frames(self.source, chosen, index=self.index, size=size, mode=mode).frames / 255
        images = self.components.images[chosen].float()
        return images if size is None else fit_image(images, *size, mode)

    def audio(self, start: float, seconds: float) -> dict[str, Any] | None:
        """The sound beside a stretch as AUDIO, None if there is none; seconds after the first frame."""
        if self.source is not None:
            sound = read_audio(self.source, self.index, start, seconds)
            return None if sound is None else {"waveform": sound[0][None], "sample_rate": sound[1]}
        if not self.components.audio:
            return None
        rate = self.components.audio["sample_rate"]
        waveform = self.components.audio["waveform"][..., round(start * rate) : round((start + seconds) * rate)]
        return {"waveform": waveform, "sample_rate": rate}


def open_video(video: Any) -> HostVideo:
    """Find out what a VIDEO holds; no frame is decoded.

    Raises ValueError if it cannot be read.
    """
    if isinstance(video, InputImpl.VideoFromComponents):
        components = video.get_components()
        rate, count = as_fps(components.frame_rate), len(components.images)
        numbers = tuple(range(count))
        return HostVideo(FrameIndex(numbers, numbers[:1], 1 / rate, rate, count / rate), components=components)
    source = video.get_stream_source()
    if isinstance(source, io.BytesIO):
        source = InMemory(source.getvalue())
    return HostVideo(_trimmed(index_frames(source), video), source)


def _trimmed(index: FrameIndex, video: Any) -> FrameIndex:
    """The part that the host's Video Slice left (2026 and newer), which a VIDEO keeps to itself."""
    start = Fraction(getattr(video, "_VideoFromFile__start_time", 0))
    seconds = Fraction(getattr(video, "_VideoFromFile__duration", 0))
    if start < 0:
        start = max(index.duration + start, Fraction(0))
    return index.between(start, start + seconds if seconds else index.duration) if start or seconds else index
