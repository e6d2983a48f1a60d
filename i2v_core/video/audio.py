"""Sound beside the pictures: encoded along with them, and as long as they are."""

from dataclasses import dataclass
from fractions import Fraction

import av
import torch
from av.audio.stream import AudioStream
from av.container import OutputContainer
from einops import rearrange
from torch import Tensor

# FFmpeg's names for the usual order of so many channels, in layouts that every encoder takes.
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_COMMON_RATE = 48_000  # that every encoder takes


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound: samples `c s` in [-1, 1] (overshoot is clamped) on any device, and how many of them make a second.

    One to eight channels are written as they are, in the order of `LAYOUTS`; more are mixed down to one.

    Raises:
        ValueError: samples of another shape or type, NaN, or a rate below one.
    """

    samples: Tensor
    rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or not self.samples.is_floating_point() or not len(self.samples):
            raise ValueError(
                f"Expected audio samples `c s` in floating point with at least one channel, got "
                f"{self.samples.dtype} of shape {tuple(self.samples.shape)}. Load the sound with Load Audio."
            )
        if not torch.isfinite(self.samples).all():
            raise ValueError("The audio holds NaN or infinite values. Check the node that made it.")
        if self.rate < 1:
            raise ValueError(f"Expected a positive number of audio samples per second, got {self.rate}.")

    @property
    def is_mixed_down(self) -> bool:
        """It has more channels than a file holds and is mixed down to their mean."""
        return len(self.samples) not in LAYOUTS

    @property
    def duration(self) -> Fraction:
        """Seconds."""
        return Fraction(self.samples.shape[1], self.rate)


class AudioTrack:
    """A sound stream of a file being written; silence follows where the sound is shorter than what is asked for."""

    def __init__(self, container: OutputContainer, encoder: str, audio: Audio) -> None:
        rates = av.Codec(encoder, "w").audio_rates
        rate = audio.rate if not rates or audio.rate in rates else _COMMON_RATE
        self._layout = LAYOUTS[1 if audio.is_mixed_down else len(audio.samples)]
        # Opus left to itself swaps the channels of some layouts: FFmpeg's to those of Vorbis, which it announces.
        options = {"mapping_family": "1"} if encoder == "libopus" and len(audio.samples) > 2 else {}
        stream = container.add_stream(encoder, rate=rate, layout=self._layout, options=options)
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._container, self._audio, self._written = container, audio, 0

    def write_until(self, time: Fraction) -> None:
        """Encode what lies between the last call's time and this one, in seconds."""
        end = round(time * self._audio.rate)
        piece = self._audio.samples[:, self._written : end].float().clamp(-1, 1).cpu()
        piece = piece.mean(0, keepdim=True) if self._audio.is_mixed_down else piece
        silence = piece.new_zeros(len(piece), end - self._written - piece.shape[1])
        samples = torch.cat((piece, silence), dim=1)
        if not samples.numel():
            return
        # Packed, because PyAV counts the planes of eight channels wrong.
        packed = rearrange(samples, "c s -> 1 (s c)").contiguous().numpy()
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._audio.rate, self._written, Fraction(1, self._audio.rate)
        self._container.mux(self._stream.encode(frame))
        self._written = end

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
