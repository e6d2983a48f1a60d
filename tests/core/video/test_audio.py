"""Sound lies where it should: as long as the pictures, at the same loudness, and in step with them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from i2v_core.video import FORMATS, Audio, Encoding, index_frames, read_audio, write_video

WITH_SOUND = [name for name, how in FORMATS.items() if how.audio]


def tone(seconds: float, rate: int = 44_100, channels: int = 2) -> Audio:
    """Silence for the first half, then 440 Hz."""
    times = torch.arange(round(seconds * rate)) / rate
    wave = 0.5 * torch.sin(2 * torch.pi * 440 * times) * (times >= seconds / 2)
    return Audio(wave.expand(channels, -1), rate)


def heard(path: Path) -> tuple[np.ndarray, int]:
    """Samples `c s` and their rate, by the time stamps of the file."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("fltp", stream.layout, stream.rate)
        frames = [out for frame in container.decode(stream) for out in resampler.resample(frame)]
        samples = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
        late = round((frames[0].pts or 0) * frames[0].time_base * stream.rate)
        return np.pad(samples, ((0, 0), (max(late, 0), 0)))[:, max(-late, 0) :], stream.rate


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(16, 32, 48, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", WITH_SOUND)
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_stays_in_step_with_the_pictures(tmp_path: Path, pictures: Tensor, name: str, channels: int) -> None:
    path = tmp_path / f"clip{FORMATS[name].suffix}"
    write_video(path, pictures.repeat(1, 2, 2, 1), 8, Encoding(name), audio=tone(2, channels=channels))
    samples, rate = heard(path)
    assert samples.shape[0] == channels
    assert samples.shape[1] / rate == pytest.approx(2, abs=0.05)
    loudness = [
        float(np.sqrt((samples[0, int(a * rate) : int(b * rate)] ** 2).mean())) for a, b in ((0, 0.95), (1.05, 1.95))
    ]
    assert loudness == pytest.approx([0, 0.5 / 2**0.5], abs=0.02)


@pytest.mark.parametrize("seconds", [0.5, 5])
def test_sound_becomes_as_long_as_the_pictures(tmp_path: Path, pictures: Tensor, seconds: float) -> None:
    write_video(tmp_path / "clip.mkv", pictures, 8, Encoding("mkv ffv1"), audio=tone(seconds))
    samples, rate = heard(tmp_path / "clip.mkv")
    assert samples.shape[1] == 2 * rate
    given = tone(seconds).samples.numpy()[:, : 2 * rate]
    assert np.abs(samples[:, : given.shape[1]] - given).max() < 1e-4
    assert np.abs(samples[:, given.shape[1] :]).sum() == 0


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 96_000, 192_000])
@pytest.mark.parametrize("name", ["mp4 h264", "webm vp9"])
def test_any_rate_is_brought_to_one_that_the_encoder_takes(
    tmp_path: Path, pictures: Tensor, name: str, rate: int
) -> None:
    path = tmp_path / f"clip{FORMATS[name].suffix}"
    write_video(path, pictures, 8, Encoding(name), audio=tone(2, rate, 1))
    samples, found = heard(path)
    assert samples.shape[1] / found == pytest.approx(2, abs=0.15)
    assert np.sqrt((samples[0, int(1.1 * found) : int(1.9 * found)] ** 2).mean()) == pytest.approx(0.354, abs=0.02)


def test_sound_and_pictures_alternate_in_the_file(tmp_path: Path) -> None:
    pictures = torch.rand(80, 32, 48, 3)
    write_video(tmp_path / "clip.mp4", pictures, 8, audio=tone(10))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        order = [
            (packet.stream.type, float(packet.pts * packet.time_base)) for packet in container.demux() if packet.size
        ]
    last = {"video": 0.0, "audio": 0.0}
    for kind, time in order:
        last[kind] = time
        assert abs(last["video"] - last["audio"]) < 8, "a player would have to seek between the two"


def test_formats_without_sound_leave_it_out(tmp_path: Path, pictures: Tensor) -> None:
    for name in set(FORMATS) - set(WITH_SOUND):
        path = tmp_path / f"{name}{FORMATS[name].suffix}"
        assert write_video(path, pictures, 8, Encoding(name), audio=tone(2)).frames == 16


def test_no_sound_becomes_silence(tmp_path: Path, pictures: Tensor) -> None:
    write_video(tmp_path / "clip.mkv", pictures, 8, Encoding("mkv ffv1"), audio=Audio(torch.zeros(1, 0), 8000))
    samples, rate = heard(tmp_path / "clip.mkv")
    assert samples.shape == (1, 2 * rate)
    assert not samples.any()


def test_the_duration_is_exact() -> None:
    assert Audio(torch.zeros(2, 44_101), 44_100).duration == Fraction(44_101, 44_100)


def test_sound_that_is_none_is_refused() -> None:
    for samples in (torch.zeros(0, 100), torch.zeros(1, 2, 100), torch.zeros(2, 100, dtype=torch.int16)):
        with pytest.raises(ValueError, match="Expected audio samples `c s`"):
            Audio(samples, 44_100)
    with pytest.raises(ValueError, match="The audio holds NaN"):
        Audio(torch.full((1, 10), float("nan")), 44_100)
    with pytest.raises(ValueError, match="positive number of audio samples"):
        Audio(torch.zeros(1, 10), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_SOUND)
def test_every_number_of_channels_is_written_and_read(tmp_path: Path, name: str) -> None:
    black = torch.zeros(16, 64, 96, 3)  # encoded at once, and no smaller than AV1 takes
    for channels in (*range(3, 9), 9):
        levels = torch.linspace(0.1, 0.8, channels)
        path = tmp_path / f"{channels}{FORMATS[name].suffix}"
        sound = Audio(levels[:, None] * torch.sin(torch.arange(96_000) / 30), 48_000)
        write_video(path, black, 8, Encoding(name), audio=sound)
        found = read_audio(path, index_frames(path), 0.5, 1)
        assert found is not None
        loudness = found[0].square().mean(1).sqrt() * 2**0.5
        # Effects (the fourth of 5.1) are cut off above 120 Hz by the lossy encoders.
        wanted = levels if channels < 9 else levels.mean()[None]
        kept = [i for i in range(len(wanted)) if not (channels in (6, 7, 8) and i == 3)]
        torch.testing.assert_close(loudness[kept], wanted[kept], rtol=0.2, atol=0.02)
