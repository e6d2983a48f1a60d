"""Small data sets written by PyAV, their frames numbered or real photographs; good files and every kind of bad one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import skimage
import torch
from torch import Tensor

from i2v_core.data import DataConfig
from i2v_core.video import clip_to_frames, to_bytes, write_video
from tests.core.video.ffmpeg import CASES
from tests.core.video.numbered import GAPS, MILLISECONDS, numbered, numbers, record


def config(path: Path, **changes: object) -> DataConfig:
    """Clips of 8 frames at the size of the numbered files."""
    return replace(DataConfig(str(path), frames=8, height=64, width=128), **changes)


STRIP = 4  # rows that show the number: few, for a cut is what changes much of the picture


def labeled(number: int) -> np.ndarray:
    """A photograph with the number of the frame in its last rows."""
    picture = photograph("chelsea.png")[100:164, 100:228].numpy().copy()
    picture[-STRIP:] = numbered(number)[-STRIP:]
    return picture


def numbers_of(pixels: Tensor) -> list[int]:
    """The numbers that the frames of a clip `c t h w` show."""
    return numbers(to_bytes(clip_to_frames(pixels[..., -STRIP:, :])))


def record_labeled(path: Path, **options: Any) -> Path:
    return record(path, picture=labeled, **{"g": "250", "bf": "3", **options})


def record_variable(path: Path) -> Path:
    return record_labeled(path, stamp=lambda i: int(GAPS[i]), base=MILLISECONDS, g="25", bf="3")


@cache
def photograph(name: str) -> Tensor:
    """RGB `h w 3`, from scikit-image."""
    from PIL import Image

    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        return torch.from_numpy(np.array(image.convert("RGB")))


def panned(name: str, frames: int, height: int = 48, width: int = 64, step: int = 2) -> Iterator[Tensor]:
    """A window moving over a photograph."""
    picture = photograph(name)
    for i in range(frames):
        yield picture[60 : 60 + height, step * i : step * i + width]


def record_scenes(path: Path, scenes: Sequence[tuple[str, int]]) -> Path:
    """Pans over photographs one behind the other, with cuts in between."""
    write_video(path, (frame for name, count in scenes for frame in panned(name, count)), 25)
    return path


def record_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for start in range(0, 8192, 1024):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 8000, start, Fraction(1, 8000)
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path


def write_bad_files(folder: Path, good: Path) -> dict[str, str]:
    """One file of every bad kind; what the audit says of each."""
    (folder / "empty.mp4").write_bytes(b"")
    content = good.read_bytes()
    (folder / "truncated.mp4").write_bytes(content[: len(content) // 2])
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "words.avi").write_text("no video at all")
    # The index at the end survives, the pictures in the middle do not.
    spoiled = bytearray(content)
    spoiled[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    (folder / "spoiled.mp4").write_bytes(spoiled)
    record_sound(folder / "sound_only.mp4")
    (folder / "joined.ts").write_bytes((CASES / "concat.ts").read_bytes())
    for name, pictures in (("bomb", ["bomb.png"]), ("bitmap", ["upright.png", "damaged.bmp"])):
        (folder / name).mkdir()
        for picture in pictures:
            content = (CASES / picture).read_bytes() if (CASES / picture).exists() else b"BM" + bytes(90)
            (folder / name / picture).write_bytes(content)
    write_video(folder / "one_frame.mp4", panned("chelsea.png", 1), 25)
    write_video(folder / "short.mp4", panned("chelsea.png", 5), 25)
    return {
        "empty.mp4": "cannot be read as a video",
        "truncated.mp4": "cannot be read as a video",
        "noise.mp4": "cannot be read as a video",
        "words.avi": "cannot be read as a video",
        "spoiled.mp4": "damaged|cannot be",
        "sound_only.mp4": "no video stream",
        "one_frame.mp4": "has one frame",
        "joined.ts": "changes its size at frame 50",
        "bomb/": r"bomb\.png' has too many pixels",
        "bitmap/": r"damaged\.bmp' cannot be read as a picture",
        "short.mp4": "too short: it has 5 frames, too few for 8",
    }
