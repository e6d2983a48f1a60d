"""Every format gives back what was written: number of frames, rate, size, pixels within its loss, transparency."""

import json
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from skimage import data
from torch import Tensor

from i2v_core.video import FORMATS, Encoding, fit_image, index_frames, play_order, read_video, write_video

METADATA = {"workflow": json.dumps({"nodes": ["ä", 1] * 50}), "prompt": json.dumps({"1": {"text": 'a "cat"'}})}
VIDEOS = [name for name, how in FORMATS.items() if how.embeds == "tags"]
LOSSY = [name for name in VIDEOS if FORMATS[name].pixels[0].is_yuv]
LOSSLESS = ["mkv ffv1", "webp lossless", "apng", "png sequence"]
WITH_ALPHA = [name for name, how in FORMATS.items() if how.alpha]
FRAMES, HEIGHT, WIDTH = 10, 96, 160


@pytest.fixture(scope="module")
def pan() -> Tensor:
    """A camera moving right over a photograph: `t h w 3` in [0, 1], on levels of 8 bits."""
    photo = fit_image(torch.from_numpy(data.coffee().copy()), 200, 300)
    return torch.stack([photo[40 : 40 + HEIGHT, 4 * i : 4 * i + WIDTH] for i in range(FRAMES)]) / 255


@pytest.fixture(scope="module")
def fading(pan: Tensor) -> Tensor:
    """The same, transparent on the left: `t h w 4`."""
    alpha = (torch.linspace(0, 255, WIDTH).round() / 255).expand(FRAMES, HEIGHT, WIDTH)
    return torch.cat((pan, alpha[..., None]), dim=-1)


@dataclass(frozen=True)
class Decoded:
    frames: Tensor  # t h w c in [0, 1]
    fps: float


def decoded(path: Path, alpha: bool = False) -> Decoded:
    """Read a file with its alpha channel and, where it is RGB, with all its bits."""
    if path.is_dir():
        parts = [decoded(picture, alpha) for picture in sorted(path.iterdir())]
        return Decoded(torch.cat([part.frames for part in parts]), 0)
    if path.suffix in (".webp", ".gif"):
        return with_pillow(path, alpha)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        if alpha and stream.codec_context.name == "vp9":  # FFmpeg's own decoder leaves alpha out
            container.seek(0)
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        if not frames[0].format.is_rgb and not alpha:
            return Decoded(read_video(path).frames / 255, float(stream.average_rate))
        pixels, full = ("rgba", 255) if frames[0].format.components[0].bits == 8 else ("rgba64le", 65535)
        pictures = torch.from_numpy(np.stack([f.reformat(format=pixels).to_ndarray() / full for f in frames]))
        return Decoded(pictures if alpha else pictures[..., :3], float(stream.average_rate or 0))


def with_pillow(path: Path, alpha: bool) -> Decoded:
    with Image.open(path) as file:
        pictures, duration = [], 0
        for frame in ImageSequence.Iterator(file):
            pictures.append(torch.from_numpy(np.array(frame.convert("RGBA"))))
            duration += frame.info["duration"]
        return Decoded(torch.stack(pictures)[..., : 3 + alpha] / 255, 1000 * len(pictures) / max(duration, 1))


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a.float() - b.float()).square().mean().clamp(min=1e-12)))


@pytest.mark.parametrize(
    ("name", "bits"),
    [pytest.param(name, bits, id=f"{name} {bits}") for name in FORMATS for bits in FORMATS[name].depths],
)
def test_every_format_gives_the_frames_back(tmp_path: Path, pan: Tensor, name: str, bits: int) -> None:
    path = tmp_path / f"clip{FORMATS[name].suffix}"
    written = write_video(path, pan, 8, Encoding(name, bits=bits))
    assert (written.frames, written.height, written.width) == (FRAMES, HEIGHT, WIDTH)
    clip = decoded(path)
    assert clip.frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    if path.is_file():
        assert clip.fps == pytest.approx(8, abs=0.15)  # GIF and WebP count in hundredths and thousandths
    worst = min(psnr(a, b) for a, b in zip(clip.frames, pan, strict=True))
    if name in LOSSLESS:
        assert (clip.frames - pan).abs().max() < (0.6 / 1023 if bits == 10 else 0.6 / 65535)
    else:
        assert worst > (24 if name == "gif" else 33)
        assert (clip.frames - pan).mean((0, 1, 2)).abs().max() < 1 / 255


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (0, 0, 0), (255, 255, 255)])
def test_plain_colors_are_bt709_and_tagged_so(tmp_path: Path, name: str, color: tuple[int, int, int]) -> None:
    plain = torch.tensor(color, dtype=torch.uint8).expand(3, 64, 64, 3)
    path = tmp_path / f"plain{FORMATS[name].suffix}"
    write_video(path, plain, 8, Encoding(name))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert tags == (1, 1, 1, 1)
    assert read_video(path).frames.amin((0, 1, 2)).tolist() == pytest.approx(color, abs=2)
    assert read_video(path).frames.amax((0, 1, 2)).tolist() == pytest.approx(color, abs=2)


@pytest.mark.parametrize("name", WITH_ALPHA)
def test_transparency_comes_back_where_it_is_promised(tmp_path: Path, fading: Tensor, name: str) -> None:
    path = tmp_path / f"fading{FORMATS[name].suffix}"
    write_video(path, fading, 8, Encoding(name))
    clip = decoded(path, alpha=True)
    assert clip.frames.shape == fading.shape
    assert (clip.frames[..., 3] - fading[..., 3]).abs().max() < (1e-5 if name in LOSSLESS else 0.02)
    opaque = fading[0, 0, :, 3] > 0.5
    assert psnr(clip.frames[:, :, opaque, :3], fading[:, :, opaque, :3]) > 30


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in WITH_ALPHA])
def test_other_formats_lay_transparency_over_white(tmp_path: Path, fading: Tensor, name: str) -> None:
    path = tmp_path / f"over_white{FORMATS[name].suffix}"
    write_video(path, fading[:3], 8, Encoding(name))
    shown = fading[:3, ..., :3] * fading[:3, ..., 3:] + 1 - fading[:3, ..., 3:]
    assert psnr(decoded(path).frames, shown) > (22 if name == "gif" else 33)


@pytest.mark.parametrize("name", LOSSY)
def test_odd_sides_grow_where_the_format_wants_even_ones(tmp_path: Path, pan: Tensor, name: str) -> None:
    odd, path = pan[:2, :95, :159], tmp_path / f"odd{FORMATS[name].suffix}"
    written = write_video(path, odd, 8, Encoding(name))
    down, across = FORMATS[name].pixels[0].chroma
    assert (written.height, written.width) == (95 + 95 % down, 159 + 159 % across)
    assert psnr(decoded(path).frames[:, :95, :159], odd) > 30


def test_more_bits_hold_more_levels(tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 2048).reshape(1, 1, 2048, 1).expand(2, 64, -1, 3)
    levels = {}
    for name, bits in (("mp4 h264", 8), ("mp4 h264", 10), ("mp4 h265", 10), ("mov prores", 10), ("webm av1", 10)):
        path = tmp_path / f"{name.split()[1]}{bits}{FORMATS[name].suffix}"
        write_video(path, ramp, 8, Encoding(name, crf=1, bits=bits))
        with av.open(str(path)) as container:
            luma = next(container.decode(video=0)).planes[0]
            levels[name, bits] = len(np.unique(np.frombuffer(luma, np.uint16 if bits > 8 else np.uint8)))
    assert levels.pop(("mp4 h264", 8)) <= 221
    assert min(levels.values()) > 400
    write_video(tmp_path / "exact", ramp, 8, Encoding("png sequence", bits=16))
    assert (decoded(tmp_path / "exact").frames - ramp).abs().max() < 0.6 / 65535


@pytest.mark.parametrize("name", VIDEOS)
def test_the_metadata_of_films_are_their_containers_tags(tmp_path: Path, pan: Tensor, name: str) -> None:
    path = tmp_path / f"tagged{FORMATS[name].suffix}"
    write_video(path, pan[:2], 8, Encoding(name), metadata=METADATA)
    with av.open(str(path)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert {key: tags[key] for key in METADATA} == METADATA
    content = path.read_bytes()
    pictures = b"mdat" if path.suffix in (".mp4", ".mov") else b"\x1f\x43\xb6\x75"  # Matroska's first cluster
    assert content.index(b'{"nodes"') < content.index(pictures), "readers look at the beginning"


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("name", ["webp", "webp lossless", "apng", "png sequence"])
def test_the_metadata_of_pictures_stand_where_the_host_puts_them(
    tmp_path: Path, fading: Tensor, name: str, channels: int, frames: int
) -> None:
    path = tmp_path / f"tagged{FORMATS[name].suffix}"
    write_video(path, fading[:frames, ..., :channels], 8, Encoding(name), metadata=METADATA)
    with Image.open(path / "00001.png" if path.is_dir() else path) as picture:
        assert getattr(picture, "n_frames", 1) == (1 if path.is_dir() else frames)
        if path.suffix == ".webp":
            exif = picture.getexif()
            found = dict(exif[tag].split(":", 1) for tag in (0x0110, 0x010F))
        else:
            found = dict(picture.info)
        assert {key: found[key] for key in METADATA} == METADATA
    clip = decoded(path, alpha=channels == 4)
    assert psnr(clip.frames[:, :, WIDTH // 2 :], fading[:frames, :, WIDTH // 2 :, :channels]) > 30


def test_gif_carries_no_metadata_and_says_so() -> None:
    assert [name for name, how in FORMATS.items() if how.embeds is None] == ["gif"]


@pytest.mark.parametrize("plays", [0, 1, 3])
def test_animations_play_as_often_as_asked(tmp_path: Path, pan: Tensor, plays: int) -> None:
    for name in ("gif", "webp", "apng"):
        path = tmp_path / f"{name}{FORMATS[name].suffix}"
        write_video(path, pan[:3], 8, Encoding(name, plays=plays))
        with Image.open(path) as picture:
            loop = picture.info.get("loop")
        # GIF counts repetitions, and without a count plays once.
        assert loop == ({0: 0, 1: None, 3: 2}[plays] if name == "gif" else plays)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "png sequence"])
def test_the_rate_of_films_is_kept_exactly_in_every_format(tmp_path: Path, pan: Tensor, name: str) -> None:
    path = tmp_path / f"rate{FORMATS[name].suffix}"
    written = write_video(path, pan, 23.976, Encoding(name))
    assert written.fps == Fraction(24000, 1001)
    if name in VIDEOS:
        assert index_frames(path).fps == Fraction(24000, 1001)
    else:
        assert decoded(path).fps == pytest.approx(23.976, abs=1)


def test_a_higher_quality_makes_a_larger_file(tmp_path: Path, pan: Tensor) -> None:
    for name in [*LOSSY, "webp"]:
        paths = [tmp_path / f"{crf}{FORMATS[name].suffix}" for crf in (10, 23, 40)]
        for path in paths:
            write_video(path, pan[:4], 8, Encoding(name, crf=int(path.stem)))
        sizes = [path.stat().st_size for path in paths]
        assert sizes == sorted(sizes, reverse=True), name
        assert sizes[0] > sizes[-1], name


def test_h265_carries_the_tag_that_apple_wants(tmp_path: Path, pan: Tensor) -> None:
    write_video(tmp_path / "clip.mp4", pan[:2], 8, Encoding("mp4 h265"))
    assert b"hvc1" in (tmp_path / "clip.mp4").read_bytes()


def test_the_order_of_playing() -> None:
    assert play_order(4) == [0, 1, 2, 3]
    assert play_order(4, pingpong=True) == [0, 1, 2, 3, 2, 1]
    assert play_order(3, pingpong=True, times=2) == [0, 1, 2, 1] * 2
    assert [play_order(count, pingpong=True) for count in (0, 1, 2)] == [[], [0], [0, 1]]


class CancelledError(Exception):
    pass


@pytest.mark.parametrize("name", ["gif", "webp", "png sequence", "webm vp9"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_cancelling_leaves_nothing_in_any_format(tmp_path: Path, pan: Tensor, name: str, at: int) -> None:
    def stop(done: int) -> None:
        if done >= at:
            raise CancelledError

    with pytest.raises(CancelledError):
        write_video(tmp_path / f"clip{FORMATS[name].suffix}", pan, 8, Encoding(name), on_frame=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_bad_frames_leave_nothing_in_any_format(tmp_path: Path, pan: Tensor, name: str) -> None:
    poisoned = pan.clone()
    poisoned[4, 3, 3, 0] = float("nan")
    path = tmp_path / f"bad{FORMATS[name].suffix}"
    for frames, reason in (
        (pan[:0], "at least one frame"),
        (poisoned, "NaN or infinite"),
        ([pan[0], pan[0, :64]], "Fit all to one size"),
    ):
        with pytest.raises(ValueError, match=reason):
            write_video(path, frames, 8, Encoding(name))
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("mp4 h265", (2, 2)), ("webp", (8, 16400)), ("gif", (8, 70000))], ids=str)
def test_pictures_that_an_encoder_does_not_take_are_refused(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"size{FORMATS[name].suffix}"
    with pytest.raises(ValueError, match=f"does not take pictures of {size[0]}x{size[1]}"):
        write_video(path, torch.rand(2, *size, 3), 8, Encoding(name))
    assert not list(tmp_path.iterdir())


def test_settings_that_a_format_does_not_have_are_refused(tmp_path: Path, pan: Tensor) -> None:
    with pytest.raises(ValueError, match="a format among mp4 h264, "):
        Encoding("avi")
    with pytest.raises(ValueError, match=r"'webm vp9' has 8 bits per channel, asked for 10"):
        Encoding("webm vp9", bits=10)
    with pytest.raises(ValueError, match="'mkv ffv1' has 8 or 10 or 16 bits"):
        Encoding("mkv ffv1", bits=12)
    with pytest.raises(ValueError, match="plays from 0 on"):
        Encoding(plays=-1)
    with pytest.raises(ValueError, match="at most 50 frames per second, got 60"):
        write_video(tmp_path / "fast.gif", pan, 60, Encoding("gif"))
    with pytest.raises(ValueError, match=re.escape("ending in .webm for 'webm vp9', got 'x.mp4'")):
        write_video(tmp_path / "x.mp4", pan, 8, Encoding("webm vp9"))
    with pytest.raises(ValueError, match="Pass a tensor or a list, not a generator"):
        write_video(tmp_path / "once.gif", iter(pan), 8, Encoding("gif"))
    (tmp_path / "taken").mkdir()
    with pytest.raises(FileExistsError, match="taken' exists already"):
        write_video(tmp_path / "taken", pan, 8, Encoding("png sequence"))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_encoder_that_this_ffmpeg_lacks_is_named(
    tmp_path: Path, pan: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libsvtav1"})
    with pytest.raises(ValueError, match=r"no encoder libsvtav1, which 'mp4 av1' needs.*pip install -U av"):
        write_video(tmp_path / "x.mp4", pan, 8, Encoding("mp4 av1"))
    assert not list(tmp_path.iterdir())
