"""The frame asked for is the frame returned, in every container."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from i2v_core.video import index_frames, read_frames, read_video, stream_frames
from i2v_core.video.sources import FileSlice, InMemory
from tests.core.video.numbered import COUNT, GAPS, MILLISECONDS, numbers, record

FILES = {
    "b_frames.mp4": {"g": "250", "bf": "3"},
    "short_groups.mp4": {"g": "12", "bf": "2"},
    "open_groups.mp4": {"g": "12", "bf": "3", "x264-params": "open-gop=1"},
    "variable.mp4": {"stamp": lambda i: int(GAPS[i]), "base": MILLISECONDS, "g": "25", "bf": "3"},
    "variable.mkv": {"stamp": lambda i: int(GAPS[i]), "base": MILLISECONDS, "g": "25", "bf": "3"},
    "starts_late.mkv": {"stamp": lambda i: i + 300, "g": "25", "bf": "3"},
    "hidden_frames.webm": {
        "codec": "libvpx",
        "g": "25",
        "auto-alt-ref": "1",
        "lag-in-frames": "16",
        "cpu-used": "8",
    },
    "stream.ts": {"g": "25", "bf": "3"},
    "lossless.mkv": {"codec": "ffv1", "pixels": "bgr0"},
    "not_seekable.gif": {
        "codec": "gif",
        "pixels": "rgb8",
        "stamp": lambda i: 4 * i,
        "base": Fraction(1, 100),
    },
    "old.avi": {"codec": "mpeg4", "g": "12", "bf": "2"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def constant(folder: Path) -> Path:
    return record(folder / "constant.mp4", g="12", bf="2")


@pytest.fixture(scope="module")
def variable(folder: Path) -> Path:
    return record(folder / "variable_rate.mp4", **FILES["variable.mp4"])


@pytest.mark.parametrize("name", FILES)
def test_frames_are_exact_in_every_container(folder: Path, name: str) -> None:
    path = record(folder / name, **FILES[name])
    index = index_frames(path)
    assert len(index) == COUNT
    for asked in (list(range(COUNT)), [80], [50, 54, 58, 62], [89, 0, 41, 41, 7], [1, 44, 88]):
        clip = read_frames(path, asked, index=index, threads=1)
        assert clip.frames.shape == (len(asked), 64, 128, 3)
        assert numbers(clip.frames) == asked


def test_times_of_a_variable_rate_are_the_stored_ones(variable: Path) -> None:
    clip = read_video(variable)
    assert clip.times == pytest.approx((GAPS - GAPS[0]) / 1000, abs=1e-4)
    assert float(clip.fps) == pytest.approx(1000 * (COUNT - 1) / (GAPS[-1] - GAPS[0]), rel=0.02)


def test_sampling_by_time_takes_the_frame_on_display(variable: Path) -> None:
    clip = read_video(variable, start=1.0, fps=10, frames=20)
    times = GAPS[0] + 1000 + 100 * np.arange(20)
    assert numbers(clip.frames) == (np.searchsorted(GAPS, times, side="right") - 1).tolist()
    assert clip.fps == 10


@pytest.mark.parametrize("name", ["constant.mp4", "starts_late.mkv"])
def test_sampling_at_the_own_rate_returns_every_frame_once(folder: Path, name: str) -> None:
    path = record(folder / f"own_{name}", **FILES.get(name, {}))
    assert numbers(read_video(path, fps=30).frames) == list(range(COUNT))


def test_a_higher_rate_repeats_frames(constant: Path) -> None:
    assert numbers(read_video(constant, fps=60, frames=6).frames) == [0, 0, 1, 1, 2, 2]


def test_stride_and_start_select_by_index(constant: Path) -> None:
    clip = read_video(constant, start=1.0, stride=4, frames=5)
    assert numbers(clip.frames) == [30, 34, 38, 42, 46]
    assert clip.fps == Fraction(30, 4)
    assert clip.times == pytest.approx([1 + 4 * i / 30 for i in range(5)])
    assert numbers(read_video(constant, stride=40).frames) == [0, 40, 80]


def test_from_the_end_the_last_frame_counts(constant: Path, variable: Path) -> None:
    assert numbers(read_video(constant, frames=3, from_end=True).frames) == [87, 88, 89]
    assert numbers(read_video(constant, frames=3, stride=10, from_end=True).frames) == [69, 79, 89]
    assert numbers(read_video(constant, frames=2, start=1.0, from_end=True).frames) == [59, 60]
    assert numbers(read_video(constant, fps=10, frames=3, from_end=True).frames) == [83, 86, 89]
    assert len(read_video(constant, from_end=True).frames) == COUNT
    clip = read_video(variable, fps=10, frames=20, from_end=True)
    times = GAPS[-1] - 100 * np.arange(20)[::-1]
    assert numbers(clip.frames) == (np.searchsorted(GAPS, times + 0.03, side="right") - 1).tolist()
    with pytest.raises(ValueError, match=r"holds 61 such frames up to 1\.0 s before its end, asked for 70"):
        read_video(constant, frames=70, start=1.0, from_end=True)


def test_a_part_of_a_video_is_a_video(constant: Path) -> None:
    part = index_frames(constant).between(Fraction(1, 2), 2)
    assert (len(part), part.duration) == (45, Fraction(3, 2))
    assert numbers(read_frames(constant, [0, 20, 44], index=part).frames) == [15, 35, 59]
    with pytest.raises(ValueError, match="no frame lies between"):
        part.between(7, 8)


def test_a_slice_of_a_file_and_bytes_in_memory_read_as_the_file(folder: Path, constant: Path) -> None:
    content = constant.read_bytes()
    (folder / "archive").write_bytes(b"\1" * 777 + content + b"\2" * 5000)
    inside = FileSlice(str(folder / "archive"), 777, len(content), "clip.mp4")
    for source in (inside, InMemory(content)):
        assert index_frames(source) == index_frames(constant)
        assert numbers(read_frames(source, [80, 3, 41]).frames) == [80, 3, 41]
    with pytest.raises(ValueError, match=r"archive/clip\.mp4' cannot be read as a video"):
        index_frames(FileSlice(inside.path, 0, 777, inside.name))
    with inside.open() as stream:
        assert stream.read() == content
        assert (stream.seek(-3, 2), stream.read(9)) == (len(content) - 3, content[-3:])


def test_frames_come_one_by_one(constant: Path) -> None:
    stream = stream_frames(constant, [2, 30, 31])
    assert [numbers(frame[None]) for frame in stream] == [[2], [30], [31]]


def test_frames_are_fitted_while_they_are_read(constant: Path) -> None:
    assert read_video(constant, frames=2, size=(32, 32)).frames.shape == (2, 32, 32, 3)


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_the_display_rotation_is_honored(folder: Path, rotation: int) -> None:
    path = record(folder / f"turned{rotation}.mp4", rotation=rotation)
    turned = torch.rot90(read_video(path, frames=3).frames, -rotation // 90, (1, 2))
    assert numbers(turned) == [0, 1, 2]


@pytest.mark.parametrize(("matrix", "full"), [(1, False), (5, False), (1, True)])
def test_colors_follow_the_tags_of_the_stream(folder: Path, matrix: int, full: bool) -> None:
    path, wanted = folder / f"tagged{matrix}{full}.mkv", (200, 30, 90)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1 + full
        plain = av.VideoFrame.from_ndarray(np.full((64, 64, 3), wanted, np.uint8), format="rgb24")
        frame = plain.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=1 + full)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert read_video(path).frames[0, 32, 32].tolist() == pytest.approx(wanted, abs=3)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file '.*gone\.mp4'"):
        index_frames(tmp_path / "gone.mp4")


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"hello"])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=r"no\.mp4' cannot be read as a video"):
        read_video(tmp_path / "no.mp4")


def test_a_truncated_file_is_refused(tmp_path: Path, constant: Path) -> None:
    (tmp_path / "cut.mp4").write_bytes(constant.read_bytes()[:-4000])
    with pytest.raises(ValueError, match=r"cut\.mp4' cannot be read as a video"):
        read_video(tmp_path / "cut.mp4")


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux([*stream.encode(sound), *stream.encode(None)])
    with pytest.raises(ValueError, match="no video stream"):
        read_video(tmp_path / "sound.wav")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"start": 3.0}, r"0 to 3\.000 s, got 3\.0 s"),
        ({"start": -1.0}, "start within"),
        ({"start": float("nan")}, "start within"),
        ({"start": 2.0, "frames": 31}, "holds 30 such frames.*asked for 31"),
        ({"stride": 8, "frames": 16}, "holds 12 such frames"),
        ({"fps": 8, "frames": 25}, "holds 24 such frames"),
        ({"fps": 0}, "positive number of frames per second"),
        ({"frames": 0}, "at least one frame"),
        ({"stride": 2, "fps": 8}, "either fps or a stride"),
    ],
)
def test_a_stretch_outside_the_file_is_refused(constant: Path, arguments: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_video(constant, **arguments)


@pytest.mark.parametrize("asked", [[], [-1], [COUNT]])
def test_frame_numbers_outside_the_file_are_refused(constant: Path, asked: list[int]) -> None:
    with pytest.raises(ValueError, match=f"has the frames 0 to {COUNT - 1}"):
        read_frames(constant, asked)
