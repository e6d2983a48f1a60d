"""Clips to evaluate, made by a checkpoint as a protocol says: one file each, so that a stopped run continues."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..denoiser import Denoiser
from ..diffusion.initialization import Initialization
from ..files import atomic_path
from ..generate import animate
from ..methods import LookBackMethod, TripMethod
from ..methods.look_back import begin_with
from ..model.temporal_noise_fusion import TemporalNoiseFusionConfig
from ..text_files import read_text
from ..video import Encoding, clip_to_frames, to_bytes, write_video
from ..weights import Checkpoint
from .items import CATEGORIES
from .processes import Processes
from .protocol import GenerationProtocol
from .tasks import EvaluationTask, find_sources, load_task

CRF = 10  # nearly lossless and still played by browsers; alike for results and ground truth
LEFT_OUT = "left_out.json"


def follow(denoiser: Denoiser, protocol: GenerationProtocol) -> Denoiser:
    """The denoiser with the protocol's initialization and fusion in place of those that its adapters bring.

    Linear fusion and none need no trained weights (TRIP, equation 9 and Table 6): on a base that takes the image on
    channels of its own they need no adapter either.

    Raises ValueError for what no adapter of this denoiser knows.
    """
    methods = denoiser.methods
    if protocol.initialization is not None:
        if denoiser.find(LookBackMethod) is None:
            raise ValueError("initialization belongs to look-back: name an adapter of look-back, or take it out")
        methods = begin_with(methods, Initialization(protocol.initialization))
    if protocol.fusion is not None:
        trip = denoiser.find(TripMethod) or TripMethod(
            None, TemporalNoiseFusionConfig(fusion="none", position="channel")
        )
        if protocol.fusion == "learned" != trip.settings.fusion:
            raise ValueError('fusion = "learned" needs an adapter of TRIP that was trained so')
        lambdas = {"first_lambda": protocol.first_lambda, "last_lambda": protocol.last_lambda}
        given: dict[str, Any] = {name: value for name, value in lambdas.items() if value is not None}
        settings = replace(trip.settings, fusion=protocol.fusion, **given)
        methods = (*(each for each in methods if each.kind != trip.kind), replace(trip, settings=settings))
    return replace(denoiser, methods=methods)


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
    denoiser = follow(denoiser, protocol)
    height, width = protocol.height or checkpoint.preset.height, protocol.width or checkpoint.preset.width
    cut = protocol.cut(protocol.frames or checkpoint.preset.frames, height, width)
    found = find_sources(protocol, cut)
    if processes.is_main:
        for folder in (results, references):
            folder.mkdir(parents=True, exist_ok=True)
        _keep_protocol(output / "protocol.json", asdict(protocol) | {"made_by": made_by})
        _write(output / LEFT_OUT, found.left_out)
        categories = {source.name: source.category for source in found.chosen if source.category is not None}
        _write(references / CATEGORIES, categories)
    processes.wait()
    missing = [source for source in found.chosen if not (results / f"{source.name}.mp4").is_file()]
    # Nobody may write before everybody has seen what is missing, or the parts would differ.
    processes.wait()
    with processes.share(missing) as mine:
        for done, source in enumerate(mine, start=1):
            task = load_task(source, protocol, cut)
            _write_references(references, task, protocol.fps)
            made = animate(
                checkpoint, task.image, task.caption, negative_prompt=protocol.negative,
                config=protocol.generation(task.seed), denoiser=denoiser,
            )  # fmt: skip
            frames = to_bytes(clip_to_frames(made)).cpu()
            write_video(results / f"{task.name}.mp4", frames, protocol.fps, Encoding(crf=CRF))
            if on_clip is not None:
                on_clip(done, len(mine), task.name)
    processes.wait()
    return results, references


def _write(path: Path, told: Mapping[str, str]) -> None:
    """Write what there is to tell; nothing is no file."""
    if told:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _write_references(folder: Path, task: EvaluationTask, fps: float) -> None:
    from PIL import Image

    Image.fromarray(task.image.numpy()).save(folder / f"{task.name}.png")
    (folder / f"{task.name}.txt").write_text(task.caption, encoding="utf-8")
    if task.truth is not None:
        write_video(folder / f"{task.name}.mp4", to_bytes(clip_to_frames(task.truth)), fps, Encoding(crf=CRF))


def _keep_protocol(path: Path, protocol: Mapping[str, object]) -> None:
    told = json.dumps(protocol, indent=1) + "\n"
    if path.is_file() and read_text(path) != told:
        raise ValueError(f"'{path.parent}' holds clips of another protocol or checkpoint: choose another --output.")
    with atomic_path(path) as temporary:
        temporary.write_text(told, encoding="utf-8")
