"""Seeded clips of figures that move over a background as their captions say, with exact futures.

What a clip looks like is in its first frame, how it moves in its caption; half of the captions also name the figure and
the background. Every tenth figure, some backgrounds and some phrases are kept out of training.

The figures are files with alpha whose names are code points, such as those of the npm package
`@lobehub/fluent-emoji-3d` (MIT): `npm pack @lobehub/fluent-emoji-3d@1.1.0`, and unpack it into `FiguresConfig.folder`.
"""

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..decoding import SEEDS, check_ranges
from .clips import LabeledCaption
from .figure_backgrounds import COLORS, EXTENT, TEST_TEXTURES, TEXTURES, Background, draw_background
from .figure_words import CAMERA_MOTIONS, FIGURE_MOTIONS, SPEEDS, choose, happens, say
from .moving_crops import TEST_PHOTOGRAPHS, TRAIN_PHOTOGRAPHS, CaptionedClip, photograph_path

MOTIONS = FIGURE_MOTIONS + CAMERA_MOTIONS
SPRITE = 128  # side in pixels of the largest sprite that is kept
HELD_OUT = 10  # one figure in so many
SUFFIXES = (".webp", ".png")
# Signs and letters, which are plates and not figures.
SIGNS = (
    "SQUARED", "SYMBOL", "SIGN", "CLOCK FACE", "ARROW", "BUTTON", "MARK", "CIRCLE", "SQUARE", "TRIANGLE", "HEAVY ",
    "KEYCAP", "CIRCLED", "DIAMOND", "SPEAKER", "POINTING", "MOON", "BARS", "CHART", "MEDIUM", "LOOP", "PEOPLE",
    "FACE WITH",
)  # fmt: skip

TRAVEL = 0.26  # sides of the clip that a figure slides in all frames at normal speed; a camera pans as far
GROWTH = 1.5
ZOOM = 1.4
TURN = math.radians(75)


@dataclass(frozen=True)
class FiguresConfig:
    """Figures, their motions and backgrounds, and the size of clips.

    Attributes:
        folder: of the figures; `~` is the home folder.
        split: the training's figures, backgrounds and phrases, or the held-out ones.
        figures: how many, the first by their files' hashes; None takes all.
        colors: of gradients, by their names in captions; on dark ones alone figures, mostly bright, stand out.
        sides: smallest and largest first size of a figure, in sides of the clip.
        off_center: largest distance of its first place from the middle, along each axis.
        named, placed: shares of the captions that name the figure, and the background where it has a name.

    Raises ValueError for a number out of its range, and for motions that are unknown or none.
    """

    frames: int = 8
    size: int = 96
    seed: int = 0
    folder: str = "~/.cache/i2v/fluent-emoji-3d/assets"
    split: Literal["train", "test"] = "train"
    figures: int | None = None
    motions: tuple[str, ...] = MOTIONS
    backgrounds: tuple[Background, ...] = ("gradient", "gradient", "texture", "photograph")
    colors: tuple[str, ...] = tuple(COLORS)
    sides: tuple[float, float] = (0.35, 0.6)
    off_center: float = 0.12
    named: float = 0.5
    placed: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(self, seed=SEEDS, frames=(1, 4096), size=(1, 16384), figures=(1, 2**20), off_center=(0, 1))
        check_ranges(self, named=(0, 1), placed=(0, 1))
        if len(self.sides) != 2 or not 0 < self.sides[0] <= self.sides[1] <= 4:
            raise ValueError(f"sides must be two sizes from 0 to 4, the smaller one first, got {self.sides}")
        if unknown := [motion for motion in self.motions if motion not in MOTIONS]:
            raise ValueError(f"there is no motion '{unknown[0]}'; choose of {', '.join(MOTIONS)}")
        if unknown := [color for color in self.colors if color not in COLORS]:
            raise ValueError(f"there is no color '{unknown[0]}'; choose of {', '.join(COLORS)}")
        if not self.motions or not self.backgrounds or not self.colors:
            raise ValueError("name at least one of motions, of backgrounds and of colors")


@dataclass(frozen=True)
class Scene:
    """All that is drawn of a clip but its motion: the rest of it renders any motion's exact future."""

    figure: str
    side: float
    center: tuple[float, float]
    angle: float
    background: Tensor
    place: str
    speed: str


def figure_name(path: Path) -> str | None:
    """The Unicode name of a file `<code point>.webp` in small letters; None for a sign, or more than one code point."""
    try:
        name = unicodedata.name(chr(int(path.stem, 16)))
    except ValueError:
        return None
    return None if any(sign in name for sign in SIGNS) else name.lower()


def find_figures(config: FiguresConfig) -> Mapping[str, Path]:
    """The figures of a split by name, in an order that depends on their names only.

    Raises FileNotFoundError, with what to do, if the folder has none.
    """
    folder = Path(config.folder).expanduser()
    files = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES) if folder.is_dir() else []
    named = {name: path for path in files if (name := figure_name(path)) is not None}
    order = sorted(named, key=lambda name: hashlib.sha256(name.encode()).digest())
    kept = order[: config.figures]
    wanted = [name for i, name in enumerate(kept) if (i % HELD_OUT == HELD_OUT - 1) == (config.split == "test")]
    if not wanted:
        raise FileNotFoundError(
            f"no figures in '{folder}': run `npm pack @lobehub/fluent-emoji-3d@1.1.0` and unpack its assets there, or "
            "name another folder in data.folder"
        )
    return {name: named[name] for name in wanted}


class Figures:
    """Clip number `index` depends on the configuration, the index and the figures' files only."""

    def __init__(self, config: FiguresConfig) -> None:
        self.config = config
        self.paths = find_figures(config)
        self._sprites: dict[str, tuple[Tensor, ...]] = {}

    def clip(self, index: int, motion: str | None = None) -> CaptionedClip:
        """Render one clip; `motion` overrides the drawn one without changing anything else."""
        scene, saying, motion = self.draw(index, motion)
        pixels = 2 * self.render(scene, motion) - 1
        return CaptionedClip(pixels, pixels[:, 0], saying.caption, motion=motion)

    def draw(self, index: int, motion: str | None = None) -> tuple[Scene, LabeledCaption, str]:
        """Content of clip number `index`, its caption and its motion."""
        config, test = self.config, self.config.split == "test"
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + index)
        drawn = choose(generator, config.motions)
        figure = choose(generator, self.names)
        saying = torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=generator)))
        speed = choose(generator, ("", "", "slowly", "quickly"))
        side, x, y, angle = torch.rand(4, generator=generator).tolist()
        smallest, largest = config.sides
        kind = config.backgrounds[int(torch.randint(len(config.backgrounds), (), generator=generator))]
        photographs, textures = (TEST_PHOTOGRAPHS, TEST_TEXTURES) if test else (TRAIN_PHOTOGRAPHS, TEXTURES)
        background, place = draw_background(generator, kind, config.size, photographs, textures, config.colors)
        motion = motion or drawn
        scene = Scene(
            figure,
            smallest + (largest - smallest) * side,
            (config.off_center * (2 * x - 1), config.off_center * (2 * y - 1)),
            0.15 * (2 * angle - 1),
            background,
            place,
            "" if motion == "still" else speed,
        )
        return scene, self._say(saying, figure, motion, scene.speed, place), motion

    def contrast(self, index: int) -> str:
        """The caption of clip number `index` with the word of another motion."""
        motion = self.draw(index)[2]
        others = [other for other in self.config.motions if other != motion]
        return self.draw(index, others[index % len(others)])[1].caption

    def nearest_motion(self, index: int, clip: Tensor) -> str:
        """The motion whose exact future of clip number `index` is closest to a clip `3 t h w` in [-1, 1].

        The first frame does not count. A true clip gets its own motion, a frozen one "still".
        """
        scene, _, _ = self.draw(index)
        shown = (clip[:, 1:].float().cpu() + 1) / 2
        errors = [(self.render(scene, motion)[:, 1:] - shown).square().mean().item() for motion in self.config.motions]
        return self.config.motions[min(range(len(errors)), key=errors.__getitem__)]

    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The classes that captions name."""
        return {"motion": self.config.motions, "speed": tuple(SPEEDS), "name": self.names, "color": tuple(COLORS)}

    def labeled_caption(self, generator: torch.Generator) -> LabeledCaption:
        """A caption alone."""
        motion, name = choose(generator, self.config.motions), choose(generator, self.names)
        speed, place = choose(generator, tuple(SPEEDS)), choose(generator, tuple(COLORS))
        if happens(generator, 0.5):
            place += choose(generator, (" and ", " ")) + choose(generator, (*COLORS, "grass", "brick"))
        return self._say(generator, name, motion, speed, place)

    def _say(self, generator: torch.Generator, name: str, motion: str, speed: str, place: str) -> LabeledCaption:
        config = self.config
        unseen = config.split == "test"
        return say(generator, name, motion, speed, place, named=config.named, placed=config.placed, unseen=unseen)

    def held_out(self) -> "Figures":
        """The same with figures, backgrounds and phrases that no training saw."""
        return Figures(replace(self.config, split="test"))

    def still(self) -> "Figures":
        """The same with one frame for each clip."""
        return Figures(replace(self.config, frames=1))

    def render(self, scene: Scene, motion: str) -> Tensor:
        """The scene under a motion, `3 t h w` in [0, 1]."""
        config = self.config
        path = motion_path(motion, config.frames, SPEEDS[scene.speed])
        below = _sample(scene.background, path.zoom / EXTENT, 2 / EXTENT * path.camera, config.size, "reflection")
        # From the view to the figure: what the camera does, and the inverse of what the figure does.
        sides, angle = scene.side * path.scale, scene.angle + path.angle
        away = 2 / sides[:, None] * (path.camera - torch.tensor(scene.center) - path.place)
        rows = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], dim=-1).unflatten(-1, (2, 2))
        shift = (rows @ away[..., None])[..., 0]
        view = rows * (path.zoom / sides)[:, None, None]
        sprite = _sample(self._level(scene.figure, sides), view, shift, config.size, "zeros")
        return torch.addcmul(sprite[:, :3], below, 1 - sprite[:, 3:]).transpose(0, 1)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The figures' names."""
        return tuple(self.paths)

    def fingerprint(self) -> str:
        """SHA-256 of the figures' names and bytes, the photographs' bytes and the configuration."""
        settings = {name: value for name, value in asdict(self.config).items() if name != "folder"}
        digest = hashlib.sha256(json.dumps(settings).encode())
        for name, path in self.paths.items():
            digest.update(name.encode() + path.read_bytes())
        for name in TRAIN_PHOTOGRAPHS + TEXTURES:
            digest.update(photograph_path(name).read_bytes())
        return digest.hexdigest()

    def summary(self) -> str:
        config = self.config
        return (
            f"{len(self.paths)} figures in {len(config.motions)} motions, {config.frames} frames of "
            f"{config.size}x{config.size} pixels, as many clips as are asked for"
        )

    def _level(self, name: str, sides: Tensor) -> Tensor:
        """The sprite `1 4 h w`, colors times alpha, at the size that needs least resampling."""
        if name not in self._sprites:
            self._sprites[name] = _read_sprite(self.paths[name])
        pyramid = self._sprites[name]
        pixels = float(sides.log().mean().exp()) * self.config.size
        level = min(len(pyramid) - 1, max(0, int(math.log2(max(SPRITE / pixels, 1)) + 0.25)))
        return pyramid[level].float() / 255


@dataclass(frozen=True)
class MotionPath:
    """Place `t 2`, relative size `t` and angle `t` of the figure, and center `t 2` and relative side `t` of the view.

    Places are in sides of the clip, x to the right and y down; angles in radians, clockwise.
    """

    place: Tensor
    scale: Tensor
    angle: Tensor
    camera: Tensor
    zoom: Tensor


def motion_path(motion: str, frames: int, speed: float) -> MotionPath:
    """Paths of figure and camera; `speed` 1 is normal."""
    part = speed * torch.arange(frames, dtype=torch.float32) / max(1, frames - 1)
    kind = motion.removeprefix("pan_")
    towards = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(kind, (0, 0))
    moved = TRAVEL * part[:, None] * torch.tensor(towards, dtype=torch.float32)
    nothing, panned = torch.zeros_like(moved), motion.startswith("pan_")
    return MotionPath(
        place=nothing if panned else moved,
        scale=GROWTH ** ({"grow": 1.0, "shrink": -1.0}.get(motion, 0.0) * part),
        angle=TURN * part if motion == "turn" else torch.zeros_like(part),
        camera=moved if panned else nothing,
        zoom=ZOOM ** ({"zoom_in": -1.0, "zoom_out": 1.0}.get(motion, 0.0) * part),
    )


def _sample(picture: Tensor, view: Tensor, shift: Tensor, size: int, padding: str) -> Tensor:
    """A picture `1 c h w` seen through affine maps of its [-1, 1] square, `t` or `t 2 2` and `t 2`: `t c size size`."""
    linear = view if view.ndim == 3 else view[:, None, None] * torch.eye(2)
    grid = F.affine_grid(torch.cat([linear, shift[..., None]], dim=-1), [len(view), 1, size, size], align_corners=False)
    pictures = picture.expand(len(view), -1, -1, -1)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _read_sprite(path: Path) -> tuple[Tensor, ...]:
    """A figure's file as `1 4 h w` in uint8, colors times alpha, and halved again and again."""
    from PIL import Image

    with Image.open(path) as image:
        rgba = np.array(image.convert("RGBa").resize((SPRITE, SPRITE), Image.Resampling.BOX))
    levels = [torch.from_numpy(rgba).permute(2, 0, 1)[None].float()]
    while levels[-1].shape[-1] > SPRITE // 8:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return tuple(level.round().to(torch.uint8) for level in levels)
