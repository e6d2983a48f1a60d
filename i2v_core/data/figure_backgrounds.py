"""Backgrounds of figures: shades of named colors, tinted textures, blurred photographs."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .figure_words import choose, happens
from .moving_crops import photograph_pyramid

Background = Literal["gradient", "texture", "photograph"]

EXTENT = 2.0  # sides of the clip that a background spans, so that the camera may move
TEXTURES = ("skimage:brick.png", "skimage:grass.png")
TEST_TEXTURES = ("skimage:gravel.png",)
COLORS = {
    "red": (0.85, 0.20, 0.20), "orange": (0.95, 0.58, 0.20), "yellow": (0.95, 0.87, 0.35), "green": (0.30, 0.68, 0.32),
    "blue": (0.25, 0.42, 0.85), "purple": (0.55, 0.30, 0.75), "pink": (0.95, 0.62, 0.75), "brown": (0.48, 0.32, 0.20),
    "white": (0.94, 0.94, 0.94), "grey": (0.55, 0.55, 0.57), "black": (0.12, 0.12, 0.14), "cyan": (0.40, 0.80, 0.85),
}  # fmt: skip


def draw_background(
    generator: torch.Generator,
    kind: Background,
    size: int,
    photographs: tuple[str, ...],
    textures: tuple[str, ...],
    colors: tuple[str, ...],
) -> tuple[Tensor, str]:
    """A picture `1 3 h w` in [0, 1] that spans `EXTENT` sides of a clip of `size` pixels, and its name, "" for none."""
    if kind == "gradient":
        return _gradient(generator, colors)
    if kind == "texture":
        return _texture(generator, size, textures)
    return _blurred(generator, size, photographs), ""


def _gradient(generator: torch.Generator, colors: tuple[str, ...]) -> tuple[Tensor, str]:
    """Two shades of one color, or two colors, along a random direction."""
    first, second = choose(generator, colors), choose(generator, colors)
    two = happens(generator, 0.4)
    # Never quite flat, so that a camera's move can be told from the figure's.
    shade = 0.06 + 0.12 * torch.rand((), generator=generator)
    shades = shade * torch.tensor([[1.0], [-1.0]]) + 0.05 * torch.randn(2, 3, generator=generator)
    ends = torch.tensor([COLORS[first], COLORS[second if two else first]]) + shades
    angle = 2 * math.pi * torch.rand((), generator=generator).item()
    axis = torch.linspace(-1, 1, 32)
    ramp = (0.5 + 0.75 * (math.cos(angle) * axis[None] + math.sin(angle) * axis[:, None])).clamp(0, 1)
    picture = ends[0, :, None, None] * (1 - ramp) + ends[1, :, None, None] * ramp
    name = f"{first} and {second}" if two and first != second else first
    return picture[None].clamp(0, 1), name


def _texture(generator: torch.Generator, size: int, names: tuple[str, ...]) -> tuple[Tensor, str]:
    """A part of a texture, its contrast lowered, in a random color."""
    name = choose(generator, names)
    side = int(EXTENT * size)
    crop = _crop(generator, name, side, 1.0)
    color = choose(generator, tuple(COLORS))
    tint = torch.tensor(COLORS[color])[:, None, None]
    gray = crop.mean(1, keepdim=True)
    picture = (tint + 0.5 * (gray - gray.mean())).clamp(0, 1)
    return picture, f"{color} {name.rpartition(':')[2].partition('.')[0]}"


def _blurred(generator: torch.Generator, size: int, names: tuple[str, ...]) -> Tensor:
    """A part of a photograph of which a few dozen pixels are left."""
    side = int(EXTENT * size)
    crop = _crop(generator, choose(generator, names), side, 2.5)
    left = 8 + int(24 * torch.rand((), generator=generator).item())
    small = F.interpolate(crop, (left, left), mode="area")
    return F.interpolate(small, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)


def _crop(generator: torch.Generator, name: str, side: int, largest: float) -> Tensor:
    """A square of a photograph, `1 3 side side`, taken from 1 to `largest` times as many pixels."""
    pyramid = photograph_pyramid(name)
    height, width = pyramid[0].shape[-2:]
    taken = side * (1 + (largest - 1) * torch.rand((), generator=generator).item())
    taken = min(taken, height, width)
    level = min(len(pyramid) - 1, max(0, int(math.log2(max(taken / side, 1)) + 0.25)))
    y, x = (int(torch.rand((), generator=generator).item() * (extent - taken)) for extent in (height, width))
    y, x, window = (int(value / 2**level) for value in (y, x, taken))
    crop = pyramid[level][:, :, y : y + window, x : x + window]
    return F.interpolate(crop, (side, side), mode="bilinear", align_corners=False)
