"""The sound of a stretch of a video, cut to the sample."""

from fractions import Fraction

import av
import torch
from torch import Tensor

from .containers import audio_stream, open_container
from .index import FrameIndex
from .sources import Source


def read_audio(path: Source, index: FrameIndex, start: float, seconds: float) -> tuple[Tensor, int] | None:
    """Read what sounds while a stretch of the pictures is shown; silence stands where the file has no sound.

    Args:
        index: of the pictures, whose first one is at second 0.
        start, seconds: the stretch.

    Returns:
        Samples `c s` in [-1, 1] and how many of them make a second; None if the file has no sound that can be decoded.
        Of several tracks, the first that can be decoded.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read.
    """
    with open_container(path) as container:
        stream = audio_stream(container)
        if stream is None:
            return None
        rate = stream.rate
        begin = index.pts[0] * index.time_base + Fraction(start)
        count = max(round(seconds * rate), 0)
        samples = torch.zeros(stream.channels, count)
        # A little earlier: some codecs need packets before the first whole one.
        container.seek(max(int((begin - Fraction(1, 4)) * av.time_base), 0), backward=True)
        resampler = av.AudioResampler(format="fltp")
        for decoded in container.decode(stream):
            for frame in resampler.resample(decoded):
                if frame.pts is None or frame.time_base is None:
                    continue
                place = round((frame.pts * frame.time_base - begin) * rate)
                if place >= count:
                    return samples, rate
                sound = torch.from_numpy(frame.to_ndarray())[:, max(-place, 0) : count - place]
                samples[:, max(place, 0) : max(place, 0) + sound.shape[1]] = sound
        return samples, rate
