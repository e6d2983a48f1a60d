"""Files as people have them: what the index lists can be read, and it is what FFmpeg's command line shows."""

import re
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from i2v_core.video import index_frames, read_audio, read_frames, read_video
from i2v_core.video.scan import scan_video
from tests.core.video.ffmpeg import CASES, FFMPEG, decoded, ffmpeg
from tests.core.video.numbered import COUNT, numbers, record

needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="needs FFmpeg's command line")
X264, OPEN_GROUPS = "-c:v libx264 -g 12 -bf 3 -pix_fmt yuv420p", "-x265-params log-level=error:open-gop=1:bframes=3"
HEVC, MPEG2 = f"-c:v libx265 -g 12 -pix_fmt yuv420p {OPEN_GROUPS}", "-c:v mpeg2video -g 12 -bf 2 -q:v 2"
MADE = {
    "h264.mp4": X264, "h264.avi": X264, "h264.ts": X264, "h264.mpg": X264, "raw.h264": X264, "hevc.mkv": HEVC,
    "mpeg2.mpg": MPEG2, "xvid.avi": "-c:v mpeg4 -g 12 -bf 2", "old.wmv": "-c:v wmv2 -q:v 2",
    "vp8.webm": "-c:v libvpx -auto-alt-ref 1 -lag-in-frames 16", "palette.gif": "-c:v gif",
    "flat.mkv": f"-vf setsar=1/2 {X264}",
    "combed.mp4": f"-vf interlace {X264} -flags +ilme+ildct -x264-params tff=1",
}  # fmt: skip
# Files that come of cutting and joining others.
DERIVED = {
    "cut.mkv": ("hevc.mkv", "-ss 0.5 -i {source} -c copy"),
    "edited.mp4": ("h264.mp4", "-ss 0.5 -i {source} -c copy"),
    "decoding_order.mkv": ("h264.mp4", "-i {source} -c copy -bsf:v setts=pts=DTS"),
    "midway.ts": ("h264.ts", 50 * 188),
    "midway.mpg": ("mpeg2.mpg", 20 * 2048),
    "joined.ts": ("h264.ts", "twice"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("field")


def make(folder: Path, name: str) -> Path:
    path = folder / name
    if path.exists():
        return path
    if name in MADE:
        ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1.2", *MADE[name].split(), path)
        return path
    parent, how = DERIVED[name]
    source = make(folder, parent)
    if isinstance(how, int):
        path.write_bytes(source.read_bytes()[how:])
    elif how == "twice":
        path.write_bytes(source.read_bytes() * 2)
    else:
        ffmpeg(*how.format(source=source).split(), path)
    return path


@needs_ffmpeg
@pytest.mark.parametrize("name", [*MADE, *DERIVED])
def test_frames_are_those_of_the_command_line(folder: Path, name: str) -> None:
    path = make(folder, name)
    index = index_frames(path)
    look, count = index.look, len(index)
    reference = decoded(path, look.height, look.width, *["bwdif=send_frame:auto:interlaced"] * look.interlaced)
    frames = read_frames(path, range(count), index=index, threads=1).frames
    # What precedes the first whole picture is grey and garbage there, and left out here.
    reference = reference[len(reference) - count :] if index.lost else reference
    assert len(frames) == len(reference)
    # Versions of FFmpeg place chroma differently, by a few levels in so colorful a pattern; in grey they agree.
    grey, wanted = frames.numpy().mean(-1), reference.mean(-1)
    distances = np.array([[np.abs(a - b).mean() for b in wanted] for a in grey])
    assert (distances.diagonal() == distances.min(axis=1)).all()
    assert distances.diagonal().max() < 3
    assert len(list(scan_video(path, index))) == count
    chosen = [count - 1, 3, count // 2, 3]
    assert torch.equal(read_frames(path, chosen, index=index).frames, frames[chosen])


@pytest.mark.parametrize(
    ("name", "frames", "size", "note"),
    [
        ("avi_h264_bframes.avi", 50, (120, 160), "time stamps of no use"),
        ("hevc_cut_noedit.mp4", 40, (120, 160), "3 frames at the beginning cannot be decoded"),
        ("hflip.mp4", 50, (120, 160), "mirrored"),
        ("sar.mp4", 50, (120, 228), "pixels of 64:45 are made square"),
        ("interlaced.mp4", 50, (120, 160), "interlaced: deinterlaced"),
        ("hdr_pq.mp4", 50, (120, 160), r"HDR \(PQ\): mapped to SDR"),
        ("rot90.mp4", 50, (160, 120), None),
        ("apac_only.mp4", 30, (120, 160), None),
    ],
)
def test_files_from_the_field_are_read_whole(name: str, frames: int, size: tuple[int, int], note: str | None) -> None:
    index = index_frames(CASES / name)
    clip = read_video(CASES / name, index=index)
    assert clip.frames.shape == (frames, *size, 3)
    assert len(list(scan_video(CASES / name, index))) == frames
    assert len(index.notes()) == (note is not None)
    assert re.search(note or "", " ".join(index.notes()))


def test_a_size_that_changes_is_told_by_reading_and_scanning_alike() -> None:
    path = CASES / "concat.ts"
    index = index_frames(path)
    sentence = r"concat\.ts' changes its size at frame 50, from 160x120 to 320x240: cut it there"
    with pytest.raises(ValueError, match=sentence):
        read_video(path, index=index)
    with pytest.raises(ValueError, match=sentence):
        list(scan_video(path, index))
    assert len(read_frames(path, range(50), index=index).frames) == 50


def test_the_whole_display_matrix_is_applied() -> None:
    plain = read_frames(CASES / "mono8k.mov", [0, 20]).frames  # the same pictures, without a matrix
    for name, expected in (("hflip.mp4", plain.flip(2)), ("rot90.mp4", plain.rot90(-1, (1, 2)))):
        torch.testing.assert_close(read_frames(CASES / name, [0, 20]).frames, expected, rtol=0, atol=1)


def test_all_eight_orientations(tmp_path: Path) -> None:
    stored = read_frames(record(tmp_path / "plain.mp4"), [5]).frames
    for turns, mirrored in product(range(4), (False, True)):
        path = record(tmp_path / f"turned{turns}{mirrored}.mp4", rotation=90 * turns, mirrored=mirrored)
        turned = stored.rot90(turns, (1, 2))
        expected = turned.flip(2) if mirrored else turned
        torch.testing.assert_close(read_frames(path, [5]).frames, expected, rtol=0, atol=0)


def test_the_first_track_that_decodes_is_the_sound() -> None:
    for name, channels in (("apac_first.mp4", 1), ("apac_only.mp4", None)):
        sound = read_audio(CASES / name, index_frames(CASES / name), 0, 1)
        assert (None if sound is None else len(sound[0])) == channels


def test_a_codec_without_a_decoder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "new.mp4"
    path.write_bytes((CASES / "rot90.mp4").read_bytes().replace(b"avc1", b"vvv9"))
    with pytest.raises(ValueError, match=r"new\.mp4' holds pictures in .vvv9., which this FFmpeg cannot decode"):
        index_frames(path)


def test_frames_without_stamps_are_all_read(tmp_path: Path) -> None:
    source, path = record(tmp_path / "stamped.mp4", g="12", bf="2"), tmp_path / "bare.h264"
    with av.open(str(source)) as read, av.open(str(path), "w", format="h264") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(read.streams.video[0]):
            if packet.size:
                packet.stream = stream
                written.mux(packet)
    index = index_frames(path)
    assert index.numbers == range(COUNT)
    assert numbers(read_frames(path, list(range(COUNT)), index=index).frames) == list(range(COUNT))
    part = index.between(1, 2)
    assert numbers(read_frames(path, [0], index=part).frames) == [part.numbers[0]]


def test_what_is_transparent_shows_white(tmp_path: Path) -> None:
    path = tmp_path / "clear.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(8))
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgra"
        pixels = np.zeros((32, 32, 4), np.uint8)
        pixels[:, :16] = (10, 20, 200, 255)
        container.mux([*stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgra")), *stream.encode(None)])
    frame = read_video(path).frames[0]
    assert frame[0, 0].tolist() == [200, 20, 10]
    assert frame[0, 31].tolist() == [255, 255, 255]
