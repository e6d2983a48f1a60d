"""Stories of four parts from held-out photographs: do they follow their prompts, do the joins show, do colors drift?

Prints the tables of docs/stories.md. Every story starts in a window of a photograph that training never saw; its four
parts ask for four different moves, or four times for none. Where the moves lead is rendered from the photograph, so
the true story is measured by the same rules. Usage: `python benchmarks/_stories.py --stories 21 --steps 8`.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from i2v_core import load_checkpoint
from i2v_core.data.moving_crops import (
    MOTIONS,
    TEST_PHOTOGRAPHS,
    caption,
    photograph_pyramid,
    render_window,
    window_path,
)
from i2v_core.generate import GenerateConfig
from i2v_core.metrics.camera_motion import measure_camera_motion
from i2v_core.metrics.color_drift import color_drift
from i2v_core.metrics.frame_steps import frame_steps, join_ratios
from i2v_core.metrics.pixels import psnr
from i2v_core.stories import Part, Story, join_clips, tell_story
from i2v_core.video import clip_to_frames

PARTS, FRAMES, SIZE = 4, 8, 64
WAYS: dict[str, dict[str, Any]] = {
    "pixels": {"handover": "pixels"},
    "latents": {"handover": "latents"},
    "pixels, colors matched": {"handover": "pixels", "color_match": 1.0},
}


@dataclass(frozen=True)
class Told:
    """What the parts were asked for, and the frames."""

    motions: list[str]
    story: Story


def true_story(name: str, motions: list[str], generator: torch.Generator) -> Told:
    """Move a window over a photograph, each part from where the one before it ended."""
    photograph = photograph_pyramid(name)
    height, width = photograph[0].shape[-2:]
    side = 72 + 18 * torch.rand((), generator=generator).item()
    # Four different moves stay within about one side of the first window.
    margin = 1.1 * side
    x, y = (margin + (extent - 2 * margin) * torch.rand((), generator=generator).item() for extent in (width, height))
    clips = []
    for motion in motions:
        clips.append(2 * render_window(photograph, (x, y), side, 0.0, motion, FRAMES, SIZE).transpose(0, 1) - 1)
        offset, relative = window_path(motion, FRAMES)
        x, y = x + side * offset[-1, 0].item(), y + side * offset[-1, 1].item()
        side *= relative[-1].item()
    return Told(motions, Story(join_clips(clips), tuple(range(FRAMES - 1, (FRAMES - 1) * PARTS, FRAMES - 1))))


def true_stories(count: int, moving: bool, generator: torch.Generator) -> list[Told]:
    """Stories of four different moves, or of none, from each photograph in turn."""
    names = [TEST_PHOTOGRAPHS[number % len(TEST_PHOTOGRAPHS)] for number in range(count)]
    orders = [torch.randperm(len(MOTIONS), generator=generator)[:PARTS].tolist() for _ in names]
    motions = [[MOTIONS[i] if moving else "still" for i in order] for order in orders]
    return [true_story(name, moves, generator) for name, moves in zip(names, motions, strict=True)]


def retold(truth: list[Told], tell: Callable[[Tensor, list[Part], int], Story], label: str) -> list[Told]:
    """Generate every story from its first true frame."""
    stories = []
    for number, told in enumerate(truth):
        words = torch.Generator().manual_seed(number)
        parts = [Part(caption(motion, words)) for motion in told.motions]
        stories.append(Told(told.motions, tell(clip_to_frames(told.story.clip)[0], parts, 100 * number)))
        print(f"{label}: {number + 1}/{len(truth)}", file=sys.stderr)
    return stories


def sharpness(clip: Tensor) -> Tensor:
    """Root mean square difference of neighboring pixels in the last frame."""
    last = clip[:, -1]
    return (last.diff(dim=-1).square().mean() + last.diff(dim=-2).square().mean()).sqrt()


HEADER = (
    "handed over",
    "prompt followed, by part",
    "step at joins, elsewhere",
    "join ratio: median, largest",
    "joins up to 1",
    "PSNR to the truth, by part",
    "sharpness to the truth",
    "drift from the given image",
    "drift from the truth",
)


def row(label: str, told: list[Told], truth: list[Told]) -> list[str]:
    """One line of the table; values by part are means over the stories."""
    pairs = [(one.story.parts(), true.story.parts()) for one, true in zip(told, truth, strict=True)]

    def measured(function: Callable[[Tensor, Tensor, Tensor], float], form: str) -> str:
        """A function of part, true part and given image, by part."""
        values = [[function(a, b, true[0][:, 0]) for a, b in zip(parts, true, strict=True)] for parts, true in pairs]
        return " / ".join(form.format(mean(column)) for column in zip(*values, strict=True))

    follows = [
        [measure_camera_motion(part).motion == motion for part, motion in zip(parts, one.motions, strict=True)]
        for one, (parts, _) in zip(told, pairs, strict=True)
    ]
    ratios = torch.cat([join_ratios(one.story.clip, one.story.joins) for one in told])
    steps = torch.stack([frame_steps(one.story.clip) for one in told])
    at_join = torch.tensor([number in told[0].story.joins for number in range(steps.shape[1])])
    return [
        label,
        " / ".join(f"{mean(column):.2f}" for column in zip(*follows, strict=True)),
        f"{steps[:, at_join].mean():.1f}, {steps[:, ~at_join].mean():.1f}",
        f"{ratios.median():.2f}, {ratios.max():.2f}",
        f"{(ratios <= 1).sum()} of {len(ratios)}",
        measured(lambda a, b, _: new_frames_psnr(a, b), "{:.1f}"),
        measured(lambda a, b, _: (sharpness(a) / sharpness(b)).item(), "{:.2f}"),
        measured(lambda a, _, given: color_drift(a[:, -1:], given).item(), "{:.1f}"),
        measured(lambda a, b, _: color_drift(a[:, -1:], b[:, -1]).item(), "{:.1f}"),
    ]


def new_frames_psnr(part: Tensor, truth: Tensor) -> float:
    """Mean PSNR of the frames behind the first."""
    return psnr(part[:, 1:].transpose(0, 1), truth[:, 1:].transpose(0, 1)).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=21)
    parser.add_argument("--still", type=int, default=6, help="stories in which nothing should move")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--checkpoint", default=Path(__file__).resolve().parents[1] / "demo/i2v_demo.safetensors")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    checkpoint = load_checkpoint(options.checkpoint)
    generator = torch.Generator().manual_seed(2312)

    four_moves = true_stories(options.stories, True, generator)
    all_still = true_stories(options.still, False, generator)
    for title, truth in (("Four moves", four_moves), ("Four times still", all_still)):
        print(f"\n{title}, {len(truth)} stories\n")
        for line in (HEADER, ["---"] * len(HEADER), row("(the true story)", truth, truth)):
            print("| " + " | ".join(line) + " |")
        for label in options.ways:

            def tell(image: Tensor, parts: list[Part], seed: int, way: dict[str, Any] = WAYS[label]) -> Story:
                config = GenerateConfig(steps=options.steps, seed=seed)
                return tell_story(checkpoint, image, parts, config=config, **way)

            print("| " + " | ".join(row(label, retold(truth, tell, label), truth)) + " |", flush=True)


if __name__ == "__main__":
    main()
