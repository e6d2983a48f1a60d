"""What is written comes back: pictures, colors, rate and metadata; and a failure leaves no file."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from skimage import data
from torch import Tensor

from i2v_core.video import Encoding, as_fps, fit_image, index_frames, read_video, write_video


@pytest.fixture(scope="module")
def pan() -> Tensor:
    """A camera moving right over a photograph: `t h w c`, uint8."""
    photo = fit_image(torch.from_numpy(data.coffee().copy()), 200, 300)
    return torch.stack([photo[40:168, 4 * i : 4 * i + 192] for i in range(12)])


def psnr(a: Tensor, b: Tensor) -> float:
    return float(10 * torch.log10(255**2 / (a.float() - b.float()).square().mean()))


def test_a_photograph_survives_the_round_trip(tmp_path: Path, pan: Tensor) -> None:
    written = write_video(tmp_path / "pan.mp4", pan, 8)
    clip = read_video(written.path)
    assert (written.frames, written.height, written.width, written.fps) == (12, 128, 192, 8)
    assert clip.fps == 8
    assert clip.times == pytest.approx([i / 8 for i in range(12)])
    assert min(psnr(a, b) for a, b in zip(clip.frames, pan, strict=True)) > 36
    # No shift of brightness or color, which an inaccurate conversion adds to every frame.
    assert (clip.frames.float() - pan).mean((0, 1, 2)).abs().max() < 0.5


def test_a_lower_crf_is_closer(tmp_path: Path, pan: Tensor) -> None:
    quality = [
        psnr(read_video(write_video(tmp_path / "q.mp4", pan, 8, Encoding(crf=c)).path).frames, pan) for c in (5, 17, 40)
    ]
    assert quality == sorted(quality, reverse=True)


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)])
def test_colors_are_bt709_and_tagged_so(tmp_path: Path, color: tuple[int, int, int]) -> None:
    plain = torch.tensor(color, dtype=torch.uint8).expand(3, 64, 64, 3)
    written = write_video(tmp_path / "plain.mp4", plain, 8)
    with av.open(str(written.path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            1,
            1,
            1,
            1,
        )
        assert context.pix_fmt == "yuv420p"
    assert read_video(written.path).frames[1, 32, 32].tolist() == pytest.approx(color, abs=2)


@pytest.mark.parametrize("size", [(63, 97), (64, 97), (1, 1), (2, 16)])
def test_odd_sides_grow_by_one_and_repeat_the_edge(tmp_path: Path, pan: Tensor, size: tuple[int, int]) -> None:
    height, width = size
    written = write_video(tmp_path / "odd.mp4", pan[:3, :height, :width], 8)
    clip = read_video(written.path)
    assert (written.height, written.width) == (height + height % 2, width + width % 2)
    assert clip.frames.shape[1:3] == (written.height, written.width)
    assert psnr(clip.frames[:, :height, :width], pan[:3, :height, :width]) > 30


def test_metadata_and_index_come_first_and_are_readable(tmp_path: Path, pan: Tensor) -> None:
    metadata = {
        "workflow": json.dumps({"nodes": ["ä", 1] * 5000}),
        "prompt": json.dumps({"1": {"text": 'a "cat"'}}),
    }
    written = write_video(tmp_path / "tagged.mp4", pan[:2], 8, metadata=metadata)
    with av.open(str(written.path)) as container:
        assert {key: container.metadata[key] for key in metadata} == metadata
    content = written.path.read_bytes()
    assert content.index(b"moov") < content.index(b"workflow") < content.index(b"mdat")


@pytest.mark.parametrize("fps", [8, 8.0, 0.5, 23.976, 29.97, 30000 / 1001, Fraction(30000, 1001), 60, 120])
def test_the_frame_rate_is_kept_exactly(tmp_path: Path, pan: Tensor, fps: float) -> None:
    written = write_video(tmp_path / "rate.mp4", pan[:5], fps)
    index = index_frames(written.path)
    assert index.fps == written.fps == as_fps(fps)
    assert [index.time(i) for i in range(5)] == [i / as_fps(fps) for i in range(5)]


def test_ntsc_rates_are_recognized_in_floats() -> None:
    assert as_fps(30000 / 1001) == Fraction(30000, 1001)
    assert as_fps(23.976) == as_fps(Fraction(24000, 1001)) == Fraction(24000, 1001)
    assert as_fps(Fraction(2997, 125)) == Fraction(2997, 125)
    assert [as_fps(fps) for fps in (29.97, 59.94, 24.0, 23.5)] == [
        Fraction(30000, 1001),
        Fraction(60000, 1001),
        24,
        23.5,
    ]


def test_one_frame_is_a_video(tmp_path: Path, pan: Tensor) -> None:
    assert read_video(write_video(tmp_path / "one.mp4", pan[:1], 8).path).frames.shape == (1, 128, 192, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_floating_point_equals_bytes(tmp_path: Path, pan: Tensor, dtype: torch.dtype) -> None:
    exact = pan[:4].clone()
    exact[exact != 255] //= 2
    exact[exact != 255] *= 2  # few enough levels that bfloat16 keeps most of them
    write_video(tmp_path / "bytes.mp4", exact, 8)
    write_video(tmp_path / "float.mp4", (exact / 255).to(dtype).requires_grad_(), 8)
    bytes_, floats = (read_video(tmp_path / name).frames for name in ("bytes.mp4", "float.mp4"))
    # Nothing is rounded to bytes before it is converted, so what a dtype cannot hold shows.
    assert psnr(bytes_, floats) > (45 if dtype == torch.float32 else 40)


def test_channels_and_overshoot(tmp_path: Path) -> None:
    frames = [
        torch.full((32, 32, 1), 2.0),
        torch.tensor([0.0, 0, 0, 0]).expand(32, 32, 4),
        torch.full((32, 32, 3), -1.0),
    ]
    levels = read_video(write_video(tmp_path / "mixed.mp4", frames, 8).path).frames.float().mean((1, 2, 3))
    assert levels.tolist() == pytest.approx([255, 255, 0], abs=2)


def test_frames_are_taken_one_at_a_time_and_at_most_one_ahead(tmp_path: Path, pan: Tensor) -> None:
    taken: list[int] = []

    def produce() -> Iterator[Tensor]:
        for i, frame in enumerate(pan):
            taken.append(i)
            yield frame

    def check(done: int) -> None:
        assert taken == list(range(len(taken))) and done <= len(taken) <= min(done + 1, len(pan))

    assert write_video(tmp_path / "lazy.mp4", produce(), 8, on_frame=check).frames == len(pan)


class CancelledError(Exception):
    pass


@pytest.mark.parametrize("at", [1, 5])
def test_cancelling_leaves_the_old_file_alone(tmp_path: Path, pan: Tensor, at: int) -> None:
    target = tmp_path / "clip.mp4"
    target.write_bytes(b"old")

    def stop(done: int) -> None:
        if done == at:
            raise CancelledError

    with pytest.raises(CancelledError):
        write_video(target, pan, 8, on_frame=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    assert target.read_bytes() == b"old"


def test_bad_frames_are_refused_and_leave_nothing(tmp_path: Path, pan: Tensor) -> None:
    poisoned = pan / 255
    poisoned[7, 3, 3, 0] = float("nan")
    refused = [
        (poisoned, "NaN or infinite"),
        ([pan[0], pan[0, :64]], r"Frame 2 is \(64, 192\), the first was \(128, 192\)"),
        ([pan[0, :63], pan[0, :64]], "Frame 2 is"),
        (pan[:0], "at least one frame"),
        (pan[0], r"`t h w c`"),
        (pan[None], r"`t h w c`"),
    ]
    for frames, reason in refused:
        with pytest.raises(ValueError, match=reason):
            write_video(tmp_path / "bad.mp4", frames, 8)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fps", [0, -8, float("nan"), float("inf"), 1e-6])
def test_a_frame_rate_that_is_none_is_refused(tmp_path: Path, pan: Tensor, fps: float) -> None:
    with pytest.raises(ValueError, match="positive number of frames per second"):
        write_video(tmp_path / "x.mp4", pan, fps)


def test_other_bad_arguments_are_refused(tmp_path: Path, pan: Tensor) -> None:
    with pytest.raises(ValueError, match=r"ending in \.mp4"):
        write_video(tmp_path / "x.avi", pan, 8)
    with pytest.raises(ValueError, match="crf from 0 to 51"):
        Encoding(crf=52)
    with pytest.raises(ValueError, match=r"json\.dumps"):
        write_video(tmp_path / "x.mp4", pan, 8, metadata={"prompt": {}})  # type: ignore[dict-item]
    with pytest.raises(FileNotFoundError, match="absent' does not exist"):
        write_video(tmp_path / "absent" / "x.mp4", pan, 8)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, pan: Tensor) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"the disk of the folder '{tmp_path}' is full"):
            write_video(tmp_path / "large.mp4", pan, 8, Encoding(crf=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())
