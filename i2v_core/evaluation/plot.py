"""Curves and clips as pictures, drawn with Pillow: what the nodes show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import repeat
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .svg import COLORS, value_range

INK, GRID, PAPER = "#1a1a1a", "#e4e4e4", "#ffffff"


@dataclass(frozen=True)
class PlotSize:
    """Pixels of a plot and its margins."""

    width: int = 640
    height: int = 320
    left: int = 64
    bottom: int = 40
    top: int = 34
    right: int = 18


def draw_plot(
    curves: Mapping[str, Sequence[float]], title: str, *, size: PlotSize | None = None, frame: int | None = None
) -> Tensor:
    """Draw curves by name over the frame number, counted from 1: a picture `h w 3` in [0, 1].

    Args:
        frame: marks this frame, counted from 0, and hides what follows it.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not any(curves.values()):
        raise ValueError("There are no curves to draw.")
    size = size or PlotSize()
    picture = Image.new("RGB", (size.width, size.height), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    low, high = value_range(curves)
    frames = max(map(len, curves.values()))
    inner_width, inner_height = size.width - size.left - size.right, size.height - size.top - size.bottom

    def place(i: int, value: float) -> tuple[float, float]:
        x = size.left + inner_width * i / max(frames - 1, 1)
        return x, size.top + inner_height * (high - value) / (high - low)

    for step in range(5):
        value = low + (high - low) * step / 4
        y = place(0, value)[1]
        draw.line([(size.left, y), (size.width - size.right, y)], GRID)
        draw.text((size.left - 6, y), f"{value:.3g}", INK, font, anchor="rm")
    for i in sorted({0, frames // 2, frames - 1}):
        draw.text((place(i, low)[0], size.height - size.bottom + 6), str(i + 1), INK, font, anchor="mt")
    draw.text((size.left + inner_width / 2, size.height - 4), "frame", INK, font, anchor="mb")
    shown = frames if frame is None else frame + 1
    left = draw.textlength(title, font) + size.left + 16
    draw.text((size.left, 8), title, INK, font)
    for i, (name, curve) in enumerate(curves.items()):
        color = COLORS[i % len(COLORS)]
        points = [place(j, value) for j, value in enumerate(curve[:shown])]
        if len(points) > 1:
            draw.line(points, color, 3, joint="curve")
        for x, y in points[-1:]:
            draw.ellipse([(x - 4, y - 4), (x + 4, y + 4)], color)
        draw.line([(left, 16), (left + 18, 16)], color, 3)
        draw.text((left + 24, 8), name, INK, font)
        left += 36 + draw.textlength(name, font)
    return torch.from_numpy(np.array(picture)).float() / 255


def compare_frames(clips: Mapping[str, Tensor], curves: Mapping[str, Sequence[float]], title: str) -> Tensor:
    """Lay clips beside each other with their curves growing below, `t h w 3` in [0, 1].

    Args:
        clips: frames by name, `t h w 3` in [0, 1]; small ones are magnified, shorter ones hold their last frame.
        curves: by the same names.

    Raises:
        ValueError: clips of different sizes.
    """
    sizes = {name: tuple(clip.shape[1:3]) for name, clip in clips.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
        raise ValueError(f"Clips beside each other must have one size, got {told}: resize them to the first one's.")
    frames = max(map(len, clips.values()))
    held = [torch.cat([clip, clip[-1:].expand(frames - len(clip), -1, -1, -1)]) for clip in clips.values()]
    beside = torch.cat(held, dim=2).float().cpu()
    factor = -(-PlotSize.width // beside.shape[2])
    beside = repeat(beside, "t h w c -> t (h y) (w x) c", y=factor, x=factor)
    size = PlotSize(width=beside.shape[2])
    plots = torch.stack([draw_plot(curves, title, size=size, frame=i) for i in range(frames)])
    return torch.cat([beside, plots], dim=1)
