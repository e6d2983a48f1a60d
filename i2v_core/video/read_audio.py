"""The sound of a stretch of a video, cut to the sample."""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

import av
import torch
from av.audio.stream import AudioStream
from av.container import InputContainer
from einops import rearrange
from torch import Tensor

from .containers import audio_stream, open_container
from .index import FrameIndex
from .sources import Source


def read_audio(
    path: Source, index: FrameIndex, start: float, seconds: float, *, padded: bool = True
) -> tuple[Tensor, int] | None:
    """Read what sounds while a stretch of the pictures is shown; silence stands where the file has no sound.

    Args:
        index: of the pictures, whose first one is at second 0.
        start, seconds: the stretch.
        padded: silence after the last sound too.

    Returns:
        Samples `c s` in [-1, 1] and how many of them make a second; None if the file has no sound that can be decoded.
        Of several tracks, the first that can be decoded.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read.
    """
    with open_container(path) as container:
        stream = audio_stream(container)
        first = None if stream is None else next(_frames(container, stream), None)
        if stream is None or first is None:
            return None
        rate, layout = first.sample_rate, first.layout
        begin = index.pts[0] * index.time_base + Fraction(start)
        count, end = max(round(seconds * rate), 0), 0
        samples = torch.zeros(layout.nb_channels, count)
        # A little earlier: some codecs need packets before the first whole one.
        container.seek(max(int((begin - Fraction(1, 4)) * av.time_base), 0), backward=True)
        # Packed, because PyAV counts the planes of eight channels wrong.
        resampler = av.AudioResampler(format="flt", layout=layout, rate=rate)
        for decoded in _frames(container, stream):
            for frame in resampler.resample(decoded):
                if frame.pts is None or frame.time_base is None:
                    continue
                place = round((frame.pts * frame.time_base - begin) * rate)
                if place >= count:
                    return samples, rate
                sound = rearrange(torch.from_numpy(frame.to_ndarray()), "1 (s c) -> c s", c=len(samples))
                sound = sound[:, max(-place, 0) : count - place]
                end = max(place, 0) + sound.shape[1]
                samples[:, max(place, 0) : end] = sound
        return samples if padded else samples[:, :end], rate


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[av.AudioFrame]:
    """The sound from where the container stands; packets that cannot be decoded are passed over."""
    for packet in container.demux(stream):
        with suppress(av.error.InvalidDataError):
            yield from packet.decode()
