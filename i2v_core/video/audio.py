"""Sound beside the pictures: encoded along with them, and as long as they are."""

from dataclasses import dataclass
from fractions import Fraction

import av
import torch
from av.audio.stream import AudioStream
from av.container import OutputContainer
from torch import Tensor

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_COMMON_RATE = 48_000  # that every encoder takes


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound: samples `c s` in [-1, 1] (overshoot is clamped) on any device, and how many of them make a second.

    Raises:
        ValueError: samples of another shape or type, NaN, or a rate below one.
    """

    samples: Tensor
    rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or not self.samples.is_floating_point() or len(self.samples) not in _LAYOUTS:
            raise ValueError(
                f"Expected audio samples `c s` in floating point with 1, 2, 6 or 8 channels, got "
                f"{self.samples.dtype} of shape {tuple(self.samples.shape)}. Load the sound with Load Audio."
            )
        if not torch.isfinite(self.samples).all():
            raise ValueError("The audio holds NaN or infinite values. Check the node that made it.")
        if self.rate < 1:
            raise ValueError(f"Expected a positive number of audio samples per second, got {self.rate}.")

    @property
    def duration(self) -> Fraction:
        """Seconds."""
        return Fraction(self.samples.shape[1], self.rate)


class AudioTrack:
    """A sound stream of a file being written; silence follows where the sound is shorter than what is asked for."""

    def __init__(self, container: OutputContainer, encoder: str, audio: Audio) -> None:
        rates = av.Codec(encoder, "w").audio_rates
        rate = audio.rate if not rates or audio.rate in rates else _COMMON_RATE
        self._layout = _LAYOUTS[len(audio.samples)]
        stream = container.add_stream(encoder, rate=rate, layout=self._layout)
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._container, self._audio, self._written = container, audio, 0

    def write_until(self, time: Fraction) -> None:
        """Encode what lies between the last call's time and this one, in seconds."""
        end = round(time * self._audio.rate)
        piece = self._audio.samples[:, self._written : end].float().clamp(-1, 1).cpu()
        silence = piece.new_zeros(len(piece), end - self._written - piece.shape[1])
        samples = torch.cat((piece, silence), dim=1).contiguous().numpy()
        if not samples.size:
            return
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._audio.rate, self._written, Fraction(1, self._audio.rate)
        self._container.mux(self._stream.encode(frame))
        self._written = end

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
