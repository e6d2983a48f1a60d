"""The protocol of an evaluation: what a checkpoint is asked to make, of which data, and how it samples."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..data.moving_crops import TEST_PHOTOGRAPHS
from ..decoding import RATES, SEEDS, check_ranges, decode
from ..diffusion.guidance import GuidanceOrder, ScaleSchedule, parse_scale
from ..diffusion.initialization import InitializationName
from ..generate import GenerateConfig
from ..model.temporal_noise_fusion import Fusion
from ..text_files import parse_toml, read_json, read_toml
from .items import ClipProtocol

MOST_PIXELS = 16384  # of a side
OVERRIDE = re.compile(r"\s*([\w-]+)\s*=\s*(.+)", re.DOTALL)


@dataclass(frozen=True)
class GenerationProtocol:
    """Settings of the generated clips; None leaves one to the checkpoint's preset or to its adapters' training.

    Attributes:
        clips: how many. seed: of the first clip's noise and of the data; clip i takes seed + i.
        folder: pictures with captions (`NAME.png` and `NAME.txt`) and, if there is one, ground truth (`NAME.mp4`); or
            clips in a layout that training knows (`data/layouts.py`), whose first frame is the given image; None
            renders moving crops of `photographs`, whose truth and caption are exact.
        choose: the first clips by name, or so many drawn by `seed`.
        start: of the stretch that is cut from a longer clip. stride: take every n-th frame, in place of `fps` a second.
        fps: of the files written, and at which ground truth is sampled.
        text: the prompt: each clip's caption, the name of its category (its folder), or none.
        without_image: leave the given image out, as DreamVideo's text-to-video does (Table 2 and Figure 6).
        text_scale, image_scale: numbers, or schedules such as "linear:4:1"; all of these as in `GenerateConfig`.
        adapters: files, besides those of the command line.
        initialization: look-back's. fusion, first_lambda, last_lambda: TRIP's (Table 6).
    """

    clips: int = 21
    seed: int = 0
    folder: str | None = None
    photographs: tuple[str, ...] = TEST_PHOTOGRAPHS
    choose: Literal["first", "random"] = "first"
    start: Literal["first", "center", "random"] = "first"
    stride: int | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float = 8.0
    text: Literal["caption", "category", "none"] = "caption"
    without_image: bool = False
    negative: str = ""
    steps: int | None = None
    eta: float | None = None
    guidance: float | None = None
    text_scale: float | str | None = None
    image_scale: float | str | None = None
    guidance_order: GuidanceOrder = "text_first"
    frames_at_once: int | None = None
    rate: float | None = None
    adapters: tuple[str, ...] = ()
    initialization: InitializationName | None = None
    fusion: Fusion | None = None
    first_lambda: float | None = None
    last_lambda: float | None = None

    def __post_init__(self) -> None:
        check_ranges(
            self, clips=(1, 10**6), seed=SEEDS, frames=(1, 10**5), steps=(1, 10**4), fps=RATES, stride=(1, 10**4),
            height=(1, MOST_PIXELS), width=(1, MOST_PIXELS), eta=(0, 1), frames_at_once=(1, 10**5),
            first_lambda=(0, 1), last_lambda=(0, 1),
        )  # fmt: skip
        if not self.photographs:
            raise ValueError("photographs must name one or more, got none")
        for scale in (self.text_scale, self.image_scale):
            _scale(scale)
        if self.without_image and (self.image_scale is not None or self.guidance_order != "text_first"):
            raise ValueError("without_image leaves no image to guide by: take image_scale and guidance_order out")
        if (self.first_lambda is not None or self.last_lambda is not None) and self.fusion != "linear":
            raise ValueError(f'lambdas belong to fusion = "linear" (TRIP, equation 9), got fusion {self.fusion!r}')

    def generation(self, seed: int) -> GenerateConfig:
        """Settings by which one clip is generated."""
        return GenerateConfig(
            frames=self.frames, height=self.height, width=self.width, steps=self.steps, guidance=self.guidance,
            eta=self.eta, seed=seed, text_scale=_scale(self.text_scale),
            image_scale=0.0 if self.without_image else _scale(self.image_scale), guidance_order=self.guidance_order,
            frames_at_once=self.frames_at_once, rate=self.rate,
        )  # fmt: skip

    def cut(self, frames: int, height: int, width: int) -> ClipProtocol:
        """Rules by which ground truth is cut from its files."""
        fps = self.fps if self.stride is None else None
        return ClipProtocol(frames, fps, self.stride or 1, height, width, start=self.start, seed=self.seed)


def read_protocol(path: Path, overrides: Sequence[str] = ()) -> GenerationProtocol:
    """Read a TOML or JSON file.

    Args:
        overrides: such as "image_scale=2", as TOML, in place of the file's.

    Raises FileNotFoundError, or ValueError naming what is no protocol.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no protocol file '{path}'.")
    values = read_toml(path) if path.suffix.lower() == ".toml" else read_json(path)
    try:
        if isinstance(values, dict):
            values = values | {key: value for override in overrides for key, value in _override(override).items()}
        return decode(GenerationProtocol, values)
    except ValueError as error:
        raise ValueError(f"Cannot use '{path}': {error}") from error


def _override(text: str) -> dict[str, Any]:
    found = OVERRIDE.fullmatch(text)
    if found is None:
        raise ValueError(f"--set takes KEY=VALUE, such as image_scale=2, got {text!r}")
    name, value = found.groups()
    try:
        return parse_toml(f"{name} = {value}", "--set")
    except ValueError:
        # A shell has taken the quotes off a text.
        return {name: value}


def _scale(scale: float | str | None) -> ScaleSchedule | float | None:
    return parse_scale(scale) if isinstance(scale, str) else scale
