"""Small sprites in the place of a package of figures."""

from pathlib import Path

import numpy as np
from PIL import Image

from i2v_core.data.figures import FiguresConfig

FIRST, COUNT, SIDE = 0x1F400, 12, 64  # the animals


def small_figures(folder: Path, **settings: object) -> FiguresConfig:
    """A configuration of small clips of disks in different colors, each named after an animal."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) - 0.5
    for number in range(COUNT):
        path = folder / f"{FIRST + number:x}.png"
        if path.exists():
            continue
        sprite = np.zeros((SIDE, SIDE, 4), np.uint8)
        sprite[..., :3] = 255 if number % 2 else 0
        sprite[..., number % 3] = 20 * number
        sprite[..., 3] = 255 * (x**2 + y**2 < 0.2)
        Image.fromarray(sprite).save(path)
    sizes: dict[str, object] = {"frames": 4, "size": 32, "backgrounds": ("gradient",)}
    return FiguresConfig(folder=str(folder), **sizes | settings)  # type: ignore[arg-type]
