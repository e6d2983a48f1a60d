"""Pixels in FFmpeg's formats are those of the standard, rounded once."""

import av
import numpy as np
import pytest
import torch

from i2v_core.video.planes import PixelFormat, to_frame

YUV444_10 = PixelFormat("yuv444p10le", 10, "yuv")
YUV420 = PixelFormat("yuv420p", 8, "yuv", (2, 2))


def plane(frame: av.VideoFrame, index: int, dtype: type = np.uint8) -> np.ndarray:
    part = frame.planes[index]
    lines = np.frombuffer(part, dtype).reshape(-1, part.line_size // np.dtype(dtype).itemsize)
    return lines[: part.height, : part.width].astype(int)


@pytest.mark.parametrize(
    ("color", "levels"),
    [
        ((1, 1, 1), (235, 128, 128)),
        ((0, 0, 0), (16, 128, 128)),
        ((1, 0, 0), (63, 102, 240)),
        ((0, 1, 0), (173, 42, 26)),
        ((0, 0, 1), (32, 240, 118)),
        ((2, -1, -1), (63, 102, 240)),
    ],
)
def test_colors_have_the_levels_of_bt709(color: tuple[float, ...], levels: tuple[int, ...]) -> None:
    frame = to_frame(torch.tensor(color).expand(4, 6, 3), YUV420)
    assert [np.unique(plane(frame, i)).tolist() for i in range(3)] == [[level] for level in levels]
    assert (frame.colorspace, frame.color_range) == (1, 1)


def test_the_matrix_is_undone_by_that_of_the_standard() -> None:
    picture = torch.rand(16, 24, 3, generator=torch.Generator().manual_seed(0))
    y, cb, cr = (torch.from_numpy(plane(to_frame(picture, YUV444_10), i, np.uint16)) / 4 for i in range(3))
    luma, blue, red = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    green = luma - (0.0722 * 1.8556 * blue + 0.2126 * 1.5748 * red) / 0.7152
    back = torch.stack((luma + 1.5748 * red, green, luma + 1.8556 * blue), dim=-1)
    assert (back - picture).abs().max() < 2 / 1023


def test_chroma_lies_on_the_left_column_of_each_pair() -> None:
    """A ramp keeps its value where a sample is read, so a shifted filter would show as a constant difference."""
    ramp = torch.linspace(0, 1, 64).expand(8, 64)
    picture = torch.stack((ramp, torch.full_like(ramp, 0.5), 1 - ramp), dim=-1)
    full, halved = (
        plane(to_frame(picture, kind), 2, dtype) for kind, dtype in ((YUV444_10, np.uint16), (YUV420, np.uint8))
    )
    difference = full[0, ::2] / 4 - halved[0]
    assert abs(difference[1:].mean()) < 0.15


def test_odd_sides_repeat_the_edge() -> None:
    picture = torch.rand(5, 7, 3)
    frame = to_frame(picture, YUV420)
    assert (frame.height, frame.width) == (6, 8)
    luma = plane(frame, 0)
    assert (luma[5] == luma[4]).all()
    assert (luma[:, 7] == luma[:, 6]).all()


@pytest.mark.parametrize("kind", [PixelFormat("gbrap16le", 16, "gbra"), PixelFormat("rgba64be", 16, "rgba")])
def test_sixteen_bits_are_exact(kind: PixelFormat) -> None:
    picture = torch.rand(6, 10, 4)
    levels = to_frame(picture, kind).reformat(format="rgba64le").to_ndarray()
    assert (levels == (picture.numpy() * np.float32(65535) + 0.5).astype(np.uint16)).all()


def test_bytes_equal_floating_point() -> None:
    picture = torch.randint(0, 256, (6, 10, 3), dtype=torch.uint8)
    for kind in (YUV420, PixelFormat("rgb24", 8, "rgb")):
        given, floats = to_frame(picture, kind), to_frame(picture / 255, kind)
        assert (given.to_ndarray() == floats.to_ndarray()).all()
    assert (to_frame(picture, PixelFormat("rgb24", 8, "rgb")).to_ndarray() == picture.numpy()).all()
