"""Seeded clips of camera moves over real photographs, with exact captions: training data and test bed in one.

A clip is a window that moves over a photograph. What it shows is in its first frame only, how it moves in its caption
only, so both can be measured apart and without a learned judge.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..decoding import SEEDS, check_ranges
from .clips import DataClip, LabeledCaption

MOTIONS = ("left", "right", "up", "down", "in", "out", "still")

TRAIN_PHOTOGRAPHS = (
    "skimage:astronaut.png", "skimage:rocket.jpg", "skimage:hubble_deep_field.jpg", "skimage:ihc.png",
    "skimage:retina.jpg", "skimage:moon.png", "skimage:coins.png", "skimage:brick.png", "skimage:grass.png",
    "skimage:gravel.png", "sklearn:china.jpg", "sklearn:flower.jpg", "matplotlib:grace_hopper.jpg",
)  # fmt: skip
TEST_PHOTOGRAPHS = ("skimage:chelsea.png", "skimage:coffee.png", "skimage:camera.png")

PHRASES: dict[str, tuple[str, ...]] = {
    "left": ("pan left", "the camera pans left", "the camera moves to the left", "panning to the left"),
    "right": ("pan right", "the camera pans right", "the camera moves to the right", "panning to the right"),
    "up": ("pan up", "the camera pans up", "the camera moves up", "tilting up"),
    "down": ("pan down", "the camera pans down", "the camera moves down", "tilting down"),
    "in": ("zoom in", "the camera zooms in", "zooming in", "the camera moves closer"),
    "out": ("zoom out", "the camera zooms out", "zooming out", "the camera moves away"),
    "still": ("still", "the camera stays still", "a still camera", "no camera motion"),
}
# Words that say nothing of the motion: the model must learn to ignore a prompt's subject.
SUBJECTS = (
    "a photo", "a photograph of a cat", "a woman", "a man smiling", "a cup of coffee on a table", "a rocket", "the sky",
    "stars in space", "a temple", "a pink flower", "a stone wall", "green grass", "a dog in the park", "a city street",
    "mountains at sunset", "an old picture", "a close view", "a beautiful landscape", "a portrait", "a beach", "a car",
    "a bird on a tree", "a house near a river", "people walking", "a forest", "food on a plate", "high quality",
)  # fmt: skip

PAN_PER_FRAME = 1 / 32  # of the window's side: two pixels at 64
ZOOM_PER_FRAME = 1.04
MAX_ROTATION = math.radians(12)


@dataclass(frozen=True)
class MovingCropsConfig:
    """Size, length and source of the clips.

    Attributes:
        smallest_window: side in pixels of the photograph.
        detail: side in pixels of the clip of what can still be told apart; more than 1 blurs.
    """

    frames: int = 8
    size: int = 64
    seed: int = 0
    photographs: tuple[str, ...] = TRAIN_PHOTOGRAPHS
    smallest_window: int = 72
    detail: int = 1

    def __post_init__(self) -> None:
        check_ranges(self, seed=SEEDS, frames=(1, 4096), size=(1, 16384), smallest_window=(1, 16384), detail=(1, 256))
        if not self.photographs:
            raise ValueError("photographs must name one or more, got none")


@dataclass(frozen=True)
class CaptionedClip(DataClip):
    """A clip of known pixels whose first frame is given, and the motion that its caption names."""

    pixels: Tensor
    motion: str = "still"


def photograph_path(name: str) -> Path:
    """File of `package:file`, from the pictures that scikit-image, scikit-learn and matplotlib carry, or a path."""
    package, _, file = name.partition(":")
    if package == "skimage":
        import skimage

        return Path(skimage.__file__).parent / "data" / file
    if package == "sklearn":
        import sklearn

        return Path(sklearn.__file__).parent / "datasets" / "images" / file
    if package == "matplotlib":
        import matplotlib

        return Path(matplotlib.get_data_path()) / "sample_data" / file
    return Path(name)


@cache
def photograph_pyramid(name: str) -> tuple[Tensor, ...]:
    """The photograph `1 3 h w` in [0, 1] at full size and halved again and again, for sampling without aliasing."""
    from PIL import Image

    with Image.open(photograph_path(name)) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
    levels = [pixels]
    while min(levels[-1].shape[-2:]) >= 2 * 64:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return tuple(levels)


def window_path(motion: str, frames: int) -> tuple[Tensor, Tensor]:
    """Center offset `t 2` (x, y; in window sides) and relative side `t` of the window in every frame."""
    steps = torch.arange(frames, dtype=torch.float32)
    direction = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(motion, (0, 0))
    offset = steps[:, None] * PAN_PER_FRAME * torch.tensor(direction, dtype=torch.float32)
    exponent = {"in": -1.0, "out": 1.0}.get(motion, 0.0)
    return offset, ZOOM_PER_FRAME ** (exponent * steps)


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _choice(generator: torch.Generator, options: tuple[str, ...]) -> str:
    return options[int(torch.randint(len(options), (), generator=generator))]


def caption(motion: str, generator: torch.Generator) -> str:
    """Draw words that name a motion, half of the time after a subject that has nothing to do with it."""
    phrase = _choice(generator, PHRASES[motion])
    if torch.rand((), generator=generator).item() < 0.5:
        phrase = f"{_choice(generator, SUBJECTS)}, {phrase}"
    return phrase


def render_window(
    photograph: tuple[Tensor, ...],
    center: tuple[float, float],
    side: float,
    angle: float,
    motion: str,
    frames: int,
    size: int,
) -> Tensor:
    """Sample the moving window: `t 3 size size` in [0, 1].

    Args:
        photograph: its pyramid.
        center, side: of the first window, in pixels of the full photograph (x, y).
        angle: rotation of the window, radians.
    """
    offset, relative = window_path(motion, frames)
    level = min(len(photograph) - 1, max(0, int(math.log2(max(side / size, 1)) + 0.25)))
    pixels = photograph[level]
    height, width = pixels.shape[-2:]
    axis = (torch.arange(size) + 0.5) / size - 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    local = torch.stack([x, y], dim=-1)[None] * relative[:, None, None, None] + offset[:, None, None]
    cos, sin = math.cos(angle), math.sin(angle)
    turned = torch.stack([cos * local[..., 0] - sin * local[..., 1], sin * local[..., 0] + cos * local[..., 1]], -1)
    position = (torch.tensor(center) + side * turned) / 2**level
    grid = 2 * position / torch.tensor([width, height]) - 1
    sampled = F.grid_sample(
        pixels,
        grid.reshape(1, frames * size, size, 2),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    return sampled.reshape(3, frames, size, size).transpose(0, 1)


class MovingCrops:
    """Clip number `index` depends on the configuration and the index only."""

    def __init__(self, config: MovingCropsConfig) -> None:
        self.config = config

    def clip(self, index: int, motion: str | None = None) -> CaptionedClip:
        """Render one clip; `motion` overrides the drawn one without changing anything else."""
        config = self.config
        generator = torch.Generator().manual_seed((config.seed * 1_000_003 + index) % 2**64)
        drawn = _choice(generator, MOTIONS)
        motion = motion or drawn
        photograph = photograph_pyramid(_choice(generator, config.photographs))
        height, width = photograph[0].shape[-2:]
        # The largest reach of any motion around the first window, so that no window leaves the photograph.
        reach = max((config.frames - 1) * PAN_PER_FRAME + 0.5, 0.5 * ZOOM_PER_FRAME ** (config.frames - 1))
        angle = _uniform(generator, -1, 1) * MAX_ROTATION * (torch.rand((), generator=generator).item() < 0.3)
        margin = reach * (abs(math.cos(angle)) + abs(math.sin(angle)))
        largest = min(height, width) / (2 * margin)
        smallest = min(config.smallest_window, largest)
        side = math.exp(_uniform(generator, math.log(smallest), math.log(largest)))
        x, y = (_uniform(generator, side * margin, extent - side * margin) for extent in (width, height))
        pixels = render_window(photograph, (x, y), side, angle, motion, config.frames, config.size)
        if torch.rand((), generator=generator).item() < 0.5 and motion not in ("left", "right"):
            pixels = pixels.flip(-1)
        pixels = _recolor(pixels, generator)
        if config.detail > 1:
            small = F.avg_pool2d(pixels, config.detail)
            pixels = F.interpolate(small, scale_factor=config.detail, mode="bicubic", align_corners=False).clamp(0, 1)
        words = caption(motion, generator)
        pixels = (2 * pixels - 1).transpose(0, 1)
        return CaptionedClip(pixels, pixels[:, 0], words, motion=motion)

    def contrast(self, index: int) -> str:
        """The caption of clip number `index` with the words of another motion."""
        motion = self.clip(index).motion
        others = [other for other in MOTIONS if other != motion]
        return self.clip(index, others[index % len(others)]).caption

    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The classes that captions name."""
        return {"motion": MOTIONS}

    def labeled_caption(self, generator: torch.Generator) -> LabeledCaption:
        """A caption alone."""
        motion = MOTIONS[int(torch.randint(len(MOTIONS), (1,), generator=generator))]
        return LabeledCaption(caption(motion, generator), {"motion": motion})

    def held_out(self) -> "MovingCrops":
        """The same over photographs that no training saw."""
        return MovingCrops(replace(self.config, photographs=TEST_PHOTOGRAPHS))

    def still(self) -> "MovingCrops":
        """The same pictures without the moves: one frame for each clip."""
        return MovingCrops(replace(self.config, frames=1))

    def fingerprint(self) -> str:
        """SHA-256 of the photographs' bytes and the configuration."""
        settings = asdict(self.config)
        if self.config.detail == 1:  # so that what was made before there was a choice keeps its fingerprint
            del settings["detail"]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for name in self.config.photographs:
            digest.update(photograph_path(name).read_bytes())
        return digest.hexdigest()

    def summary(self) -> str:
        config = self.config
        return (
            f"camera moves over {len(config.photographs)} photographs, {config.frames} frames of "
            f"{config.size}x{config.size} pixels, as many clips as are asked for"
        )


def _recolor(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Random gain of each channel, contrast and brightness, so that a dozen photographs show many colors."""
    gain = 1 + 0.25 * (2 * torch.rand(3, generator=generator) - 1)
    contrast, brightness = _uniform(generator, 0.7, 1.15), _uniform(generator, -0.12, 0.12)
    mean = pixels.mean()
    return ((pixels * gain[:, None, None] - mean) * contrast + mean + brightness).clamp(0, 1)
