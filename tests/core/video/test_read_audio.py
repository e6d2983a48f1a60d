"""Sound is cut to the sample, and stands where the pictures are."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from i2v_core.video import index_frames, read_audio

RATE = 8000


def record_with_ramp(path: Path, codec: str, late: float = 0.0) -> Path:
    """Two seconds of black pictures; the sound begins `late` seconds after them and rises evenly from 0 to 0.5."""
    ramp = np.linspace(0, 0.5, 2 * RATE, dtype=np.float32)
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream(codec, rate=RATE, layout="mono")
        for i in range(50):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8)).reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(video.encode(frame))
        for begin in range(0, 2 * RATE, 800):
            piece = (ramp[None, begin : begin + 800] * 32767).astype(np.int16)
            sound = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
            sound.sample_rate, sound.time_base = RATE, Fraction(1, RATE)
            sound.pts = begin + round(late * RATE)
            container.mux(audio.encode(sound))
        container.mux([*video.encode(None), *audio.encode(None)])
    return path


@pytest.mark.parametrize("late", [0.0, 0.25])
def test_the_sound_of_a_stretch_is_that_of_its_pictures(tmp_path: Path, late: float) -> None:
    path = record_with_ramp(tmp_path / "ramp.mkv", "pcm_s16le", late)
    index = index_frames(path)
    for start, seconds in ((0.0, 2.0), (1.0, 0.5), (0.2, 0.3), (1.9, 0.4)):
        samples, rate = read_audio(path, index, start, seconds)
        assert (rate, samples.shape) == (RATE, (1, round(seconds * RATE)))
        places = start - late + np.arange(samples.shape[1]) / RATE
        wanted = np.where((places >= 0) & (places < 2), places / 4, 0)
        assert np.abs(samples[0].numpy() - wanted).max() < 1e-3, "rising 0.5 in two seconds, silent elsewhere"


def test_a_silent_file_has_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "silent.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8)).reformat(format="yuv420p")
        container.mux([*video.encode(frame), *video.encode(None)])
    assert read_audio(path, index_frames(path), 0, 1) is None
