"""Load Clip takes exact frames out of every kind of VIDEO that the host has."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.core.video.numbered import COUNT, GAPS, MILLISECONDS, numbers, record
from tests.core.video.test_read_audio import RATE, record_with_ramp

DEFAULTS = {"start": 0.0, "frames": 0, "fps": 0.0, "stride": 1, "from_end": False, "width": 0, "height": 0}
Loaded = Callable[..., tuple[torch.Tensor, float, Any]]


@pytest.fixture
def loaded(node_classes: dict[str, Any]) -> Loaded:
    return lambda video, **changes: node_classes["I2VLoadClip"].execute(video, **{**DEFAULTS, **changes}).result


@pytest.fixture(scope="module")
def constant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("videos") / "constant.mp4", g="12", bf="2")


@pytest.fixture(scope="module")
def implementations(pack: ModuleType) -> Any:
    from comfy_api.latest import InputImpl

    return InputImpl


def shown(images: torch.Tensor) -> list[int]:
    assert images.dtype == torch.float32
    assert 0 <= images.min() <= images.max() <= 1
    return numbers(images * 255)


def test_frames_are_taken_by_number_and_from_the_end(loaded: Loaded, implementations: Any, constant: Path) -> None:
    video = implementations.VideoFromFile(str(constant))
    images, fps, audio = loaded(video, start=1.0, frames=4, stride=3)
    assert (shown(images), fps, audio) == ([30, 33, 36, 39], 10.0, None)
    assert shown(loaded(video, frames=2, from_end=True)[0]) == [88, 89]
    assert len(loaded(video)[0]) == COUNT


def test_a_variable_rate_is_exact_by_time(loaded: Loaded, implementations: Any, tmp_path: Path) -> None:
    path = record(tmp_path / "variable.mp4", stamp=lambda i: int(GAPS[i]), base=MILLISECONDS, g="25", bf="3")
    images, fps, _ = loaded(implementations.VideoFromFile(str(path)), fps=8.0, frames=10)
    assert shown(images) == [int((GAPS[0] + 125 * i + 0.03 >= GAPS).sum()) - 1 for i in range(10)]
    assert fps == 8


def test_bytes_and_frames_in_memory_give_the_same(loaded: Loaded, implementations: Any, constant: Path) -> None:
    from comfy_api.util import VideoComponents

    videos = [
        implementations.VideoFromFile(str(constant)),
        implementations.VideoFromFile(io.BytesIO(constant.read_bytes())),
    ]
    components = VideoComponents(images=loaded(videos[0])[0], audio=None, frame_rate=Fraction(30))
    videos.append(implementations.VideoFromComponents(components))
    for changes in (
        {"fps": 10.0, "frames": 5},
        {"frames": 3, "from_end": True, "start": 0.5},
        {"frames": 2, "width": 48, "height": 40},
    ):
        first, *others = (loaded(video, **changes) for video in videos)
        for other in others:
            torch.testing.assert_close(other[0], first[0], rtol=0, atol=1 / 254)
            assert other[1:] == first[1:]
    assert loaded(videos[2], frames=2, width=48, height=40)[0].shape == (2, 40, 48, 3)


def test_the_sound_belongs_to_the_frames(loaded: Loaded, implementations: Any, tmp_path: Path) -> None:
    path = record_with_ramp(tmp_path / "ramp.mkv", "pcm_s16le")
    video = implementations.VideoFromFile(str(path))
    images, fps, audio = loaded(video, start=1.0, frames=10)
    assert (len(images), fps, audio["sample_rate"]) == (10, 25.0, RATE)
    assert audio["waveform"].shape == (1, 1, round(0.4 * RATE))
    assert audio["waveform"][0, 0, 0] == pytest.approx(0.25, abs=1e-3)
    inside = implementations.VideoFromComponents(video.get_components())
    again = loaded(inside, start=1.0, frames=10)[2]["waveform"]
    assert again.shape == audio["waveform"].shape


def test_a_trimmed_video_is_a_video_of_its_own(loaded: Loaded, implementations: Any, constant: Path) -> None:
    video = implementations.VideoFromFile(str(constant))
    if not hasattr(video, "as_trimmed"):
        pytest.skip("this host has no Video Slice")
    trimmed = video.as_trimmed(start_time=1.0, duration=1.0)
    assert shown(loaded(trimmed)[0]) == list(range(30, 60))
    assert shown(loaded(trimmed, from_end=True, frames=1)[0]) == [59]
    assert shown(loaded(video.as_trimmed(start_time=-0.5))[0]) == list(range(75, 90))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"start": 9.0}, "a start within the video, 0 to 3.000 s"),
        ({"frames": 91}, "holds 90 such frames"),
        ({"fps": 8.0, "stride": 2}, "either fps or a stride"),
        ({"width": 64}, "both width and height, or 0 for both, got 64x0"),
    ],
)
def test_what_the_video_does_not_hold_is_refused(
    loaded: Loaded, implementations: Any, constant: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        loaded(implementations.VideoFromFile(str(constant)), **changes)


def test_a_file_that_is_no_video_is_refused(loaded: Loaded, implementations: Any, tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"no\.mp4' cannot be read as a video"):
        loaded(implementations.VideoFromFile(str(tmp_path / "no.mp4")))
