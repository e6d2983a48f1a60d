"""Clips to evaluate, made by a checkpoint as a protocol file says: one file each, so that a stopped run continues."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.moving_crops import MOTIONS, TEST_PHOTOGRAPHS, MovingCrops, MovingCropsConfig
from ..decoding import RATES, SEEDS, check_ranges, decode
from ..denoiser import Denoiser
from ..files import atomic_path
from ..generate import GenerateConfig, animate
from ..text_files import read_json, read_text
from ..video import Encoding, clip_to_frames, fit_image, read_picture, to_bytes, write_video
from ..weights import Checkpoint
from .items import PICTURES, VIDEOS, ClipProtocol, read_clip
from .processes import Processes

MOST_PIXELS = 16384  # of a side
CRF = 10  # nearly lossless and still played by browsers; alike for results and ground truth


@dataclass(frozen=True)
class GenerationProtocol:
    """What a checkpoint is asked to make; everything else is the checkpoint's own preset.

    Attributes:
        clips: how many. seed: of the first clip's noise and of the data; clip i takes seed + i.
        folder: pictures with captions (`NAME.png` and `NAME.txt`) and, if there is one, ground truth (`NAME.mp4`);
            None renders moving crops of `photographs`, whose truth and caption are exact.
        fps: of the files written.
    """

    clips: int = 21
    seed: int = 0
    folder: str | None = None
    photographs: tuple[str, ...] = TEST_PHOTOGRAPHS
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    steps: int | None = None
    guidance: float | None = None
    fps: float = 8.0

    def __post_init__(self) -> None:
        check_ranges(
            self, clips=(1, 10**6), seed=SEEDS, frames=(1, 10**5), steps=(1, 10**4), fps=RATES,
            height=(1, MOST_PIXELS), width=(1, MOST_PIXELS),
        )  # fmt: skip
        if not self.photographs:
            raise ValueError("photographs must name one or more, got none")


@dataclass(frozen=True)
class Task:
    """One clip to make: the given image `h w 3` in bytes, the caption, the seed, and its true future `c t h w`."""

    name: str
    image: Tensor
    caption: str
    seed: int
    truth: Tensor | None


def read_protocol(path: Path) -> GenerationProtocol:
    """Read a JSON file; raises FileNotFoundError, or ValueError naming what is no protocol."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no protocol file '{path}'.")
    values = read_json(path)
    try:
        return decode(GenerationProtocol, values)
    except ValueError as error:
        raise ValueError(f"Cannot use '{path}': {error}") from error


def make_clips(
    checkpoint: Checkpoint,
    denoiser: Denoiser,
    protocol: GenerationProtocol,
    output: Path,
    processes: Processes,
    made_by: str,
    on_clip: Callable[[int, int, str], None] | None = None,
) -> tuple[Path, Path]:
    """Make every clip that is not there yet; returns the folders of the results and of what they are compared with.

    Args:
        made_by: names the weights; clips of others are not continued.
        on_clip: called with the number done, of how many, and the name, in this process.

    Raises:
        ValueError: `output` holds clips of another protocol or other weights, or the checkpoint cannot animate alone.
    """
    results, references = output / "results", output / "references"
    if processes.is_main:
        for folder in (results, references):
            folder.mkdir(parents=True, exist_ok=True)
        _keep_protocol(output / "protocol.json", asdict(protocol) | {"made_by": made_by})
    processes.wait()
    names = [name for name in _names(protocol) if not (results / f"{name}.mp4").is_file()]
    # Nobody may write before everybody has seen what is missing, or the parts would differ.
    processes.wait()
    config = GenerateConfig(protocol.frames, protocol.height, protocol.width, protocol.steps, protocol.guidance)
    height, width = protocol.height or checkpoint.preset.height, protocol.width or checkpoint.preset.width
    frames = protocol.frames or checkpoint.preset.frames
    with processes.share(names) as mine:
        for done, name in enumerate(mine, start=1):
            task = _task(protocol, name, frames, height, width)
            _write_references(references, task, protocol.fps)
            made = animate(
                checkpoint, task.image, task.caption, config=_seeded(config, task.seed), denoiser=denoiser
            )  # fmt: skip
            write_video(results / f"{name}.mp4", to_bytes(clip_to_frames(made)).cpu(), protocol.fps, Encoding(crf=CRF))
            if on_clip is not None:
                on_clip(done, len(mine), name)
    processes.wait()
    return results, references


def _seeded(config: GenerateConfig, seed: int) -> GenerateConfig:
    return GenerateConfig(**asdict(config) | {"seed": seed})


def _names(protocol: GenerationProtocol) -> list[str]:
    if protocol.folder is None:
        return [f"{i:05d}-{MOTIONS[i % len(MOTIONS)]}" for i in range(protocol.clips)]
    return [path.stem for path in _pictures(protocol.folder)][: protocol.clips]


def _pictures(folder: str) -> list[Path]:
    found = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in PICTURES)
    if not found:
        raise ValueError(f"There are no pictures in '{folder}': expected {', '.join(PICTURES)} files.")
    return found


def _task(protocol: GenerationProtocol, name: str, frames: int, height: int, width: int) -> Task:
    index = _names(protocol).index(name)
    if protocol.folder is None:
        if height != width:
            raise ValueError(f"Moving crops are square, got {height}x{width}: name a folder of pictures.")
        data = MovingCrops(
            MovingCropsConfig(frames=frames, size=height, seed=protocol.seed + 1, photographs=protocol.photographs)
        )
        clip = data.clip(index, MOTIONS[index % len(MOTIONS)])
        image = to_bytes(clip_to_frames(clip.pixels[:, :1]))[0]
        return Task(name, image, clip.caption, protocol.seed + index, clip.pixels)
    return _folder_task(Path(protocol.folder), name, protocol, frames, height, width, index)


def _folder_task(
    folder: Path, name: str, protocol: GenerationProtocol, frames: int, height: int, width: int, index: int
) -> Task:
    text, video = folder / f"{name}.txt", next(_existing(folder, name, VIDEOS), None)
    if not text.is_file():
        raise ValueError(f"The picture '{name}' has no caption: expected '{text}'.")
    pixels = read_picture(next(_existing(folder, name, PICTURES)))
    cut = ClipProtocol(frames=frames, fps=protocol.fps, height=height, width=width)
    truth = None if video is None else read_clip(video, cut)[0]
    caption = read_text(text).strip()
    return Task(name, fit_image(pixels, height, width), caption, protocol.seed + index, truth)


def _existing(folder: Path, name: str, endings: tuple[str, ...]) -> Iterator[Path]:
    return (path for ending in endings if (path := folder / f"{name}{ending}").is_file())


def _write_references(folder: Path, task: Task, fps: float) -> None:
    from PIL import Image

    Image.fromarray(task.image.numpy()).save(folder / f"{task.name}.png")
    (folder / f"{task.name}.txt").write_text(task.caption, encoding="utf-8")
    if task.truth is not None:
        write_video(folder / f"{task.name}.mp4", to_bytes(clip_to_frames(task.truth)), fps, Encoding(crf=CRF))


def _keep_protocol(path: Path, protocol: dict[str, Any]) -> None:
    told = json.dumps(protocol, indent=1) + "\n"
    if path.is_file() and read_text(path) != told:
        raise ValueError(f"'{path.parent}' holds clips of another protocol or checkpoint: choose another --output.")
    with atomic_path(path) as temporary:
        temporary.write_text(told, encoding="utf-8")
