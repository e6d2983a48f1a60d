"""One reader of pictures: what is stored in any way looks as it should, and what cannot be used is one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from i2v_core.unusable import UnusableError
from i2v_core.video import read_picture, to_rgb
from i2v_core.video.pictures import picture_size
from tests.core.video.ffmpeg import CASES

GENERATOR = np.random.default_rng(0)
COLORS = GENERATOR.integers(0, 256, (12, 16, 3), np.uint8)


def saved(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    picture.save(path, **options)
    return path


def test_a_picture_stored_sideways_is_read_upright() -> None:
    sideways, upright = read_picture(CASES / "exif6.jpg"), read_picture(CASES / "upright.png")
    assert sideways.shape == upright.shape == (*picture_size(CASES / "exif6.jpg"), 3)
    assert (sideways.float() - upright.float()).abs().mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_has_the_size_that_the_header_tells(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "turned.png", COLORS, exif=exif)
    picture = read_picture(path)
    assert picture_size(path) == picture.shape[:2] == ((12, 16) if orientation < 5 else (16, 12))
    assert sorted(picture.flatten().tolist()) == sorted(COLORS.flatten().tolist())


def test_more_than_eight_bits_are_scaled(tmp_path: Path) -> None:
    ramp = read_picture(CASES / "grey16.png")[0, :, 0].int()
    assert (ramp[0], ramp[-1] > 250, (ramp.diff() >= 0).all()) == (0, True, True)
    assert read_picture(CASES / "float.tif").unique().tolist() == [128]
    levels = np.array([[0, 257 * 100, 65535]], np.uint16)
    for name in ("grey.png", "grey.tif"):
        assert read_picture(saved(tmp_path / name, levels))[0, :, 1].tolist() == [0, 100, 255]
    assert read_picture(saved(tmp_path / "wide.tif", levels.astype(np.int32)))[0, :, 1].tolist() == [0, 100, 255]


@pytest.mark.parametrize("values", [(0.0, 255.0), (-1.0, 1.0), (0.0, float("nan"))])
def test_numbers_without_a_scale_are_refused(tmp_path: Path, values: tuple[float, float]) -> None:
    path = saved(tmp_path / "float.tif", np.array([values], np.float32))
    with pytest.raises(UnusableError, match=r"float\.tif' holds numbers from .*, expected 0 to 1"):
        read_picture(path)


def test_transparency_of_every_kind_shows_white(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 200, 100, 50])
    clear = Image.fromarray(np.array([[[200, 100, 50, 255], [10, 20, 30, 0]]], np.uint8))
    paths = [
        saved(tmp_path / "palette.png", palette, transparency=0),
        saved(tmp_path / "palette.gif", palette, transparency=0),
        saved(tmp_path / "key.png", clear.convert("RGB"), transparency=(10, 20, 30)),
        saved(tmp_path / "alpha.png", clear),
        saved(tmp_path / "alpha.webp", clear, lossless=True),
        saved(tmp_path / "grey.png", clear.convert("LA")),
    ]
    for path in paths:
        picture = read_picture(path)
        assert picture.shape == (1, 2, 4), path
        assert [255, 255, 255] in to_rgb(picture)[0].tolist(), path
    for mode in ("1", "L", "CMYK", "YCbCr"):
        picture = saved(
            tmp_path / f"{mode}.{'png' if len(mode) == 1 else 'tif'}", Image.fromarray(COLORS).convert(mode)
        )
        assert read_picture(picture).shape == (12, 16, 3)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    for read in (read_picture, picture_size):
        with pytest.raises(UnusableError, match=r"bomb\.png' has too many pixels to decode"):
            read(CASES / "bomb.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.webp", "a.gif", "lzw.tif"])
def test_damaged_files_are_one_sentence(tmp_path: Path, name: str) -> None:
    options = {"compression": "tiff_lzw"} if name.startswith("lzw") else {}
    whole = saved(tmp_path / name, COLORS, **options).read_bytes()
    refused = 0
    for _ in range(60):
        content = bytearray(whole)
        for place in GENERATOR.integers(0, min(len(content), 120), 4):
            content[place] = GENERATOR.integers(256)
        (tmp_path / name).write_bytes(content[: GENERATOR.integers(4, len(content) + 1)])
        try:
            assert read_picture(tmp_path / name).shape[-1] in (3, 4)
        except UnusableError as error:
            assert str(tmp_path / name) in str(error)
            assert "\n" not in str(error)
            refused += 1
    assert refused


def test_a_missing_file_stays_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(UnusableError, match="File name too long"):
        read_picture(tmp_path / f"{'long' * 99}.png")
    assert torch.is_tensor(read_picture(CASES / "upright.png"))
