"""The command line: `python -m i2v_core animate | story | train | audit | evaluate | convert | inspect | measure`."""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from . import generate, load_checkpoint, save_checkpoint
from .denoiser import Denoiser
from .diffusion.guidance import ScaleSchedule, parse_scale
from .diffusion.initialization import InitializationName
from .evaluation.command import add_arguments as add_evaluation_arguments
from .generate import GenerateConfig
from .weights import (
    AdapterContents,
    Checkpoint,
    CheckpointContents,
    describe,
    describe_adapter,
    is_adapter,
    load_adapter,
    read_adapter,
    read_checkpoint,
)
from .weights.companions.command import add_base_arguments, base_files

Command = Callable[[argparse.Namespace], int | None]

DEMO = Path(__file__).resolve().parents[1] / "demo" / "i2v_demo.safetensors"


def animate(arguments: argparse.Namespace) -> None:
    """Animate a picture and write a video."""
    from .video import clip_to_frames, read_picture, write_video

    checkpoint, denoiser = load_denoiser(arguments, compiled=arguments.compile)
    clip = generate.animate(
        checkpoint, read_picture(arguments.image), arguments.prompt, negative_prompt=arguments.negative,
        config=generation(arguments), denoiser=denoiser,
        callback=lambda step, steps, _: progress(f"step {step + 1}/{steps}"),
    )  # fmt: skip
    written = write_video(arguments.output, clip_to_frames(clip).cpu(), arguments.fps)
    print(written.path)


def story(arguments: argparse.Namespace) -> None:
    """Animate a picture part by part, each with its own prompt from where the last one ended, and write a video."""
    from .metrics.color_drift import color_drift
    from .stories import read_story, tell_story
    from .video import clip_to_frames, read_picture, write_video

    parts = read_story(arguments.story)
    checkpoint, denoiser = load_denoiser(arguments, compiled=arguments.compile)
    told = tell_story(
        checkpoint, read_picture(arguments.image), parts, config=generation(arguments), denoiser=denoiser,
        handover=arguments.handover, color_match=arguments.color_match,
        on_step=lambda part, step, steps: progress(f"part {part + 1}/{len(parts)}, step {step + 1}/{steps}"),
    )  # fmt: skip
    drift = [value for scene, ends in told.scenes() for value in color_drift(scene[:, ends], scene[:, 0])]
    progress(f"color drift at the end of each part, in levels of 255: {', '.join(f'{value:.1f}' for value in drift)}")
    written = write_video(arguments.output, clip_to_frames(told.clip).cpu(), arguments.fps)
    print(written.path)


def train(arguments: argparse.Namespace) -> int:
    """Train a model or an adapter as a TOML configuration says, going on where an earlier run was interrupted."""
    from .training.command import end_with_input, train_from_file

    if arguments.end_with_input:
        end_with_input()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # it names every file of a checkpoint
    return train_from_file(arguments.config, arguments.set, dry_run=arguments.dry_run, tell=progress, result=print)


def audit(arguments: argparse.Namespace) -> None:
    """Look at all clips of a data set: which are used for training, which are not, and why."""
    from .data import DataConfig, audit_data

    names = ("path", "frames", "target_fps", "frame_stride", "image_fps", "cache_directory")
    config = DataConfig(**{name: getattr(arguments, name) for name in names})
    report = audit_data(config, lambda done, count, name: progress(f"{done}/{count} {name}"))
    if arguments.json:
        Path(arguments.json).write_text(report.json() + "\n", encoding="utf-8")
    print(report.text())


def evaluate(arguments: argparse.Namespace) -> None:
    """Measure results or a protocol's clips, or ask people; with neither, how often a model moves as it is asked to."""
    if arguments.folders or arguments.protocol or arguments.study or arguments.study_results:
        if arguments.initialization or arguments.lossy_first_frame:
            raise ValueError("--initialization is of the measurement of motion alone; a protocol file names its own")
        from .evaluation.command import evaluate_files

        if path := evaluate_files(arguments, progress):
            print(path)
        return
    from .evaluation import evaluate_motion

    started = time.monotonic()
    checkpoint, denoiser = load_denoiser(arguments)
    report = evaluate_motion(
        checkpoint,
        clips=arguments.clips,
        denoiser=denoiser,
        config=GenerateConfig(steps=arguments.steps, guidance=arguments.guidance),
        on_batch=lambda done, clips: progress(f"{done}/{clips} clips, {time.monotonic() - started:.0f} s"),
    )
    text = json.dumps(report.asdict(), indent=1)
    if arguments.output:
        Path(arguments.output).write_text(text + "\n", encoding="utf-8")
    print(text)


def convert(arguments: argparse.Namespace) -> None:
    """Rewrite a checkpoint of any layout as one safetensors file, and say what it holds."""
    import torch

    dtype = {"keep": None, "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[arguments.dtype]
    contents = read_checkpoint(arguments.source, preset=arguments.preset)
    save_checkpoint(arguments.target, contents, dialect=arguments.dialect, dtype=dtype)
    print(describe(contents))
    megabytes = Path(arguments.target).stat().st_size / 1e6
    print(f"written to {arguments.target}: {megabytes:.1f} MB, {arguments.dtype}")


def inspect(arguments: argparse.Namespace) -> None:
    """Say what a weights file holds, without loading the weights."""
    contents: AdapterContents | CheckpointContents
    if is_adapter(arguments.checkpoint):
        contents = read_adapter(arguments.checkpoint, described=True)
        print(describe_adapter(contents))
    else:
        contents = read_checkpoint(arguments.checkpoint, preset=arguments.preset, described=True)
        print(describe(contents))
    for name, value in sorted(contents.metadata.items()):
        print(f"{name}: {value}")


def measure(arguments: argparse.Namespace) -> None:
    """Compare a video with the picture and the prompt that it was made from; show them side by side if asked to."""
    from .metrics.camera_motion import measure_camera_motion
    from .metrics.pixels import psnr
    from .video import (
        Encoding,
        fit_image,
        frames_to_clip,
        read_picture,
        read_video,
        side_by_side,
        to_model_range,
        write_video,
    )

    video = read_video(arguments.video)
    if arguments.preview:
        enlarged = side_by_side(read_picture(arguments.image), video.frames)
        print(write_video(arguments.preview, enlarged, video.fps, Encoding("webp")).path)
    clip = frames_to_clip(video.frames)
    fitted = to_model_range(fit_image(read_picture(arguments.image), *clip.shape[-2:])).permute(2, 0, 1)
    print(f"frames: {clip.shape[1]} of {clip.shape[3]}x{clip.shape[2]} pixels at {float(video.fps):g} per second")
    print(f"first frame against the picture: {psnr(clip[:, 0], fitted).item():.1f} dB PSNR")
    print(f"measured camera motion: {measure_camera_motion(clip).motion}; prompt: {arguments.prompt!r}")


def load_denoiser(arguments: argparse.Namespace, *, compiled: bool = False) -> tuple[Checkpoint, Denoiser]:
    """The checkpoint, and its network with the adapters."""
    checkpoint = load_checkpoint(arguments.checkpoint, device=arguments.device, **base_files(arguments))
    adapters = [load_adapter(path, device=arguments.device) for path in arguments.adapter]
    denoiser = Denoiser.adapted(checkpoint.unet, checkpoint.preset, adapters)
    if (name := arguments.initialization) or arguments.lossy_first_frame:
        denoiser = denoiser.begun(name, exact_first=not arguments.lossy_first_frame)
    if compiled:
        from .model.compiled import compile_blocks

        compile_blocks(denoiser.network)
        progress("the first step compiles the network block by block, which takes a minute or more")
    return checkpoint, denoiser


def generation(arguments: argparse.Namespace) -> GenerateConfig:
    """Settings of a generation from the options of `add_generation`."""
    names = (
        "frames", "height", "width", "steps", "guidance", "seed", "text_scale", "image_scale", "guidance_order",
        "frames_at_once", "rate",
    )  # fmt: skip
    return GenerateConfig(**{name: getattr(arguments, name) for name in names})


def scale(text: str) -> ScaleSchedule:
    """A guidance scale as written on the command line."""
    try:
        return parse_scale(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m i2v_core", description=__doc__)
    commands = main.add_subparsers(required=True, metavar="command")

    def command(function: Command, *positional: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(run=function)
        for name in positional:
            sub.add_argument(name)
        return sub

    sub = command(animate, "image", "prompt", "output")
    sub.add_argument("--negative", default="", help="what guidance leads away from")
    add_generation(sub)

    sub = command(story, "story", "image", "output")
    sub.add_argument(
        "--handover", choices=("pixels", "latents"), default="pixels", help="what the next part begins with"
    )
    sub.add_argument("--color-match", type=float, default=0.0, help="lead colors back to the picture's by the end of "
                     "each part: 0 not at all, 1 wholly")  # fmt: skip
    add_generation(sub)

    sub = command(train, "config")
    sub.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="in place of the file's")
    sub.add_argument("--dry-run", action="store_true", help="tell the plan, and stop there")
    sub.add_argument("--end-with-input", action="store_true", help="end, with a checkpoint, when standard input "
                     "closes: for programs that start this one")  # fmt: skip

    sub = command(audit, "path")
    sub.add_argument("--frames", type=int, default=16, help="of a clip")
    sub.add_argument("--target-fps", type=float, help="take frames by time, so many a second")
    sub.add_argument("--frame-stride", type=int, default=1, help="take every so many frames")
    sub.add_argument("--image-fps", type=float, help="rate of folders of pictures")
    sub.add_argument("--cache-directory", default="", help="default: .i2v_cache beside the data")
    sub.add_argument("--json", help="file for the report with every clip")

    sub = command(evaluate)
    add_base_arguments(sub, DEMO)
    add_initialization(sub)
    sub.add_argument("--clips", type=int, default=200)
    sub.add_argument("--steps", type=int)
    sub.add_argument("--guidance", type=float)
    sub.add_argument("--device", default="cpu")
    sub.add_argument("--output", help="JSON file for the report; with folders or a protocol: a folder")
    add_evaluation_arguments(sub)

    sub = command(convert, "source", "target")
    sub.add_argument("--dialect", choices=("i2v", "lvdm"), default="i2v")
    sub.add_argument("--dtype", choices=("keep", "fp16", "bf16", "fp32"), default="keep")
    sub.add_argument("--preset", help="where the weights do not tell")

    sub = command(inspect, "checkpoint")
    sub.add_argument("--preset", help="where the weights do not tell")

    sub = command(measure, "video")
    sub.add_argument("--image", required=True)
    sub.add_argument("--prompt", required=True)
    sub.add_argument("--preview", help="write the picture beside the video, enlarged and looping, to this .webp file")
    return main


def add_generation(sub: argparse.ArgumentParser) -> None:
    """The options of commands that generate."""
    add_base_arguments(sub, DEMO)
    for name in ("frames", "height", "width", "steps"):
        sub.add_argument(f"--{name}", type=int, help="default: what the checkpoint was trained on")
    add_initialization(sub)
    sub.add_argument("--frames-at-once", type=int, help="long videos in pieces of so many frames; needs look-back")
    sub.add_argument("--guidance", type=float)
    forms = "4, or over the steps linear:4:1, cosine:4:1, interval:4:1:0.2:0.8"
    for name in ("text", "image"):
        sub.add_argument(f"--{name}-scale", type=scale, metavar="SCALE", help=f"guidance by the {name} alone: {forms}")
    sub.add_argument("--guidance-order", choices=("text_first", "image_first"), default="text_first")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--rate", type=float, help="what the model is told of the motion: frames per second or frame "
                     "stride, as it was trained; default: the usual one")  # fmt: skip
    sub.add_argument("--fps", type=float, default=8, help="of the file")
    sub.add_argument("--device", default="cpu")
    sub.add_argument("--compile", action="store_true", help="compile the network, for many steps or clips; on a CPU "
                     "this needs a C++ compiler")  # fmt: skip


def add_initialization(sub: argparse.ArgumentParser) -> None:
    """Add the option of look-back's initialization."""
    sub.add_argument("--initialization", choices=get_args(InitializationName), help="how look-back begins with the "
                     "picture; default: what the adapter was trained with")  # fmt: skip
    sub.add_argument("--lossy-first-frame", action="store_true", help="with inversion: leave frame 0 as sampling makes "
                     "it, to compare; without, it is the picture exactly")  # fmt: skip


def main() -> int:
    arguments = parser().parse_args()
    try:
        return arguments.run(arguments) or 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
