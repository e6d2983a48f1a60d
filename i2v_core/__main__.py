"""The command line: `python -m i2v_core animate | train | evaluate | convert | inspect | measure`."""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import load_checkpoint, save_checkpoint
from .denoiser import Denoiser
from .evaluation.command import add_arguments as add_evaluation_arguments
from .weights import load_adapter, read_checkpoint

Command = Callable[[argparse.Namespace], None]

DEMO = Path(__file__).resolve().parents[1] / "demo" / "i2v_demo.safetensors"


def animate(arguments: argparse.Namespace) -> None:
    """Animate a picture and write a video."""
    import numpy
    import torch
    from PIL import Image

    from . import generate
    from .video import clip_to_frames, write_video

    with Image.open(arguments.image) as image:
        picture = torch.from_numpy(numpy.array(image.convert("RGBA" if "A" in image.getbands() else "RGB")))
    checkpoint = load_checkpoint(arguments.checkpoint, device=arguments.device)
    adapters = [load_adapter(path, device=arguments.device) for path in arguments.adapter]
    config = generate.GenerateConfig(
        frames=arguments.frames, height=arguments.height, width=arguments.width, steps=arguments.steps,
        guidance=arguments.guidance, seed=arguments.seed,
    )  # fmt: skip
    clip = generate.animate(
        checkpoint, picture, arguments.prompt, negative_prompt=arguments.negative, config=config,
        denoiser=Denoiser.adapted(checkpoint.unet, checkpoint.preset, adapters),
        callback=lambda step, steps, _: progress(f"step {step + 1}/{steps}"),
    )  # fmt: skip
    written = write_video(arguments.output, clip_to_frames(clip).cpu(), arguments.fps)
    print(written.path)


def train(arguments: argparse.Namespace) -> None:
    """Train a model, or an adapter if the recipe names a method."""
    from .training.methods import read_adapter_recipe, run_adapter_recipe
    from .training.recipe import read_recipe, run_recipe

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    if "method" in json.loads(Path(arguments.recipe).read_text(encoding="utf-8")):
        print(run_adapter_recipe(read_adapter_recipe(arguments.recipe)))
    else:
        print(run_recipe(read_recipe(arguments.recipe)))


def evaluate(arguments: argparse.Namespace) -> None:
    """Measure result folders or a protocol's clips; with neither, how often a model follows the motion asked for."""
    if arguments.folders or arguments.protocol:
        from .evaluation.command import evaluate_files

        if path := evaluate_files(arguments, progress):
            print(path)
        return
    from .evaluation import evaluate_motion
    from .generate import GenerateConfig

    started = time.monotonic()
    checkpoint = load_checkpoint(arguments.checkpoint, device=arguments.device)
    adapters = [load_adapter(path, device=arguments.device) for path in arguments.adapter]
    report = evaluate_motion(
        checkpoint,
        clips=arguments.clips,
        denoiser=Denoiser.adapted(checkpoint.unet, checkpoint.preset, adapters),
        config=GenerateConfig(steps=arguments.steps, guidance=arguments.guidance),
        on_batch=lambda done, clips: progress(f"{done}/{clips} clips, {time.monotonic() - started:.0f} s"),
    )
    text = json.dumps(report.asdict(), indent=1)
    if arguments.output:
        Path(arguments.output).write_text(text + "\n", encoding="utf-8")
    print(text)


def convert(arguments: argparse.Namespace) -> None:
    """Rewrite a checkpoint of any dialect in ours or in LVDM's."""
    import torch

    dtype = {"keep": None, "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[arguments.dtype]
    contents = read_checkpoint(arguments.source, preset=arguments.preset)
    save_checkpoint(arguments.target, contents, dialect=arguments.dialect, dtype=dtype)
    print(arguments.target)


def inspect(arguments: argparse.Namespace) -> None:
    """Say what a weights file holds."""
    contents = read_checkpoint(arguments.checkpoint, preset=arguments.preset)
    parameters = sum(tensor.numel() for tensor in contents.unet.values())
    print(f"{contents.preset.name} ({contents.dialect} names), U-Net with {parameters / 1e6:.2f} M parameters")
    print(contents.unet_config)
    print(contents.preset)
    for part in ("image_projection", "autoencoder", "text_encoder", "clip_text", "clip_vision"):
        print(f"{part}: {'yes' if getattr(contents, part) else 'no'}")
    for name, value in sorted(contents.metadata.items()):
        print(f"{name}: {value}")


def measure(arguments: argparse.Namespace) -> None:
    """Compare a video with the picture and the prompt that it was made from."""
    import numpy
    import torch
    from PIL import Image

    from .metrics.camera_motion import measure_camera_motion
    from .metrics.pixels import psnr
    from .video import fit_image, frames_to_clip, read_video, to_model_range

    video = read_video(arguments.video)
    clip = frames_to_clip(video.frames)
    with Image.open(arguments.image) as image:
        picture = torch.from_numpy(numpy.array(image.convert("RGB")))
    fitted = to_model_range(fit_image(picture, *clip.shape[-2:])).permute(2, 0, 1)
    print(f"frames: {clip.shape[1]} of {clip.shape[3]}x{clip.shape[2]} pixels at {float(video.fps):g} per second")
    print(f"first frame against the picture: {psnr(clip[:, 0], fitted).item():.1f} dB PSNR")
    print(f"measured camera motion: {measure_camera_motion(clip).motion}; prompt: {arguments.prompt!r}")


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
    sub.add_argument("--checkpoint", default=DEMO)
    sub.add_argument("--adapter", action="append", default=[], help="adapter file; may be given several times")
    sub.add_argument("--negative", default="", help="what guidance leads away from")
    for name in ("frames", "height", "width", "steps"):
        sub.add_argument(f"--{name}", type=int, help="default: what the checkpoint was trained on")
    sub.add_argument("--guidance", type=float)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--fps", type=float, default=8)
    sub.add_argument("--device", default="cpu")

    command(train, "recipe")

    sub = command(evaluate)
    sub.add_argument("--checkpoint", default=DEMO)
    sub.add_argument("--adapter", action="append", default=[], help="adapter file; may be given several times")
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
    return main


def main() -> int:
    arguments = parser().parse_args()
    try:
        arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
