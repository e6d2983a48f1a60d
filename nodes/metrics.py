"""Nodes that measure clips."""

import json
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..i2v_core.evaluation.measures import CURVES, MEASURES, FeatureEncoders, Sample, Value, measure_clip
from ..i2v_core.evaluation.plot import compare_frames, draw_plot
from .convert import fit_given_image, frames_to_pixels, pixels_to_frames
from .host.clip_similarity import encode_frames, encode_text
from .widgets import search_aliases

# What a graph can measure: optical flow needs a library that the host lacks.
NAMES = [name for name in MEASURES if name not in ("flow_amount", "dynamic_degree")]
NO_VISION = "This measure needs clip_vision: connect Load CLIP Vision with a CLIP image encoder."
NO_FLOW = "This measure is not offered in the graph."
CLIPS = 4


def sample_of(
    frames: Tensor,
    image: Tensor,
    *,
    reference: Tensor | None = None,
    text: str = "",
    clip_vision: Any | None = None,
    clip: Any | None = None,
) -> Sample:
    """A clip of IMAGE frames `t h w c` beside the given image, fitted to its size."""
    pixels = frames_to_pixels(frames, "frames")
    height, width = pixels.shape[-2:]
    given = frames_to_pixels(fit_given_image(image, height, width, "crop", 1), "image")[:, 0]

    def embed(part: Tensor) -> Tensor:
        return encode_frames(clip_vision, pixels_to_frames(part))

    def embed_text(caption: str) -> Tensor:
        return encode_text(clip, caption, embed(given[:, None]).shape[-1])

    encoders = FeatureEncoders(
        frames=NO_VISION if clip_vision is None else embed,
        text=NO_VISION if clip_vision is None else embed_text if clip is not None else "CLIPSIM needs clip.",
        flow=NO_FLOW,
    )
    true = None if reference is None else frames_to_pixels(reference, "ground_truth")
    return Sample(pixels, encoders, reference=true, image=given, caption=text.strip() or None)


def main_curve(values: Mapping[str, Value], errors: Mapping[str, str]) -> str:
    """The curve to show, ISIM if there is one; raises ValueError with the sentence if none could be taken."""
    for name in CURVES:
        if name in values:
            return name
    raise ValueError(errors[CURVES[-1]])


def clip_labels(labels: str, count: int) -> list[str]:
    """Names of so many clips from a text with commas; the number where there is none, or one twice."""
    given = [label.strip() for label in labels.split(",")]
    named = [given[i] if i < len(given) and given[i] else str(i + 1) for i in range(count)]
    return [name if named.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(named)]


class I2VMetrics(io.ComfyNode):
    """Measure a clip against the given image, its text and the ground truth."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VMetrics",
            display_name="I2V Metrics",
            category="I2V Diffusion/metrics",
            **search_aliases("isim", "psnr", "ssim", "clip score"),
            description="Measures how well a clip keeps to the given image, how much it moves and how smoothly.",
            inputs=[
                io.Image.Input("frames", tooltip="The frames of one clip, in order."),
                io.Image.Input("image", tooltip="The one picture that was animated; fitted to the frames' size."),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="The prompt. A camera move that it names is looked for; with clip and clip_vision it is "
                    "compared with the frames (CLIPSIM).",
                ),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="CLIP image encoder, for ISIM, F-Consistency and the like."
                ),
                io.Clip.Input(
                    "clip", optional=True, tooltip="The full text encoder of the same CLIP, only for CLIPSIM."
                ),
                io.Image.Input(
                    "ground_truth", optional=True, tooltip="The real clip of the same frames, for PSNR and SSIM."
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="All numbers as JSON, and why some are missing."),
                io.Image.Output(display_name="plot", tooltip="Similarity to the given image over the frames."),
                io.Float.Output(display_name="isim_average", tooltip="ISIM(Avg); NaN without clip_vision."),
                io.Float.Output(display_name="first_frame_psnr", tooltip="First frame to the given image, in dB."),
                io.Float.Output(display_name="motion_amount", tooltip="Mean frame difference; 0 is a frozen clip."),
            ],
        )

    @classmethod
    def execute(
        cls,
        frames: Tensor,
        image: Tensor,
        text: str = "",
        clip_vision: Any | None = None,
        clip: Any | None = None,
        ground_truth: Tensor | None = None,
    ) -> io.NodeOutput:
        sample = sample_of(frames, image, reference=ground_truth, text=text, clip_vision=clip_vision, clip=clip)
        values, errors = measure_clip(sample, NAMES)
        shown = main_curve(values, errors)
        plot = draw_plot({"clip": values[shown]}, MEASURES[shown].label)
        numbers = [values.get(name, float("nan")) for name in ("isim_average", "first_frame_psnr", "motion_amount")]
        report = json.dumps({"values": values, "not measured": errors}, indent=1)
        return io.NodeOutput(report, plot[None], *numbers)


class I2VCompareClips(io.ComfyNode):
    """Show several clips of one given image side by side, with their curves growing below."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        clips = [
            io.Image.Input(f"clip_{i}", optional=i > 2, tooltip=f"The frames of clip {i}; all clips have one size.")
            for i in range(1, CLIPS + 1)
        ]
        return io.Schema(
            node_id="I2VCompareClips",
            display_name="Compare Clips",
            category="I2V Diffusion/metrics",
            **search_aliases("side by side", "compare videos"),
            description="Puts clips made from one picture beside each other, with their similarity to it over time.",
            inputs=[
                io.Image.Input("image", tooltip="The one picture that was animated."),
                *clips,
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP image encoder for ISIM curves; without it PSNR is drawn.",
                ),
                io.String.Input(
                    "labels",
                    default="1, 2, 3, 4",
                    optional=True,
                    tooltip="Names of the clips for the plot, separated by commas.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="Clips and curves frame by frame, for Combine Video."),
                io.Image.Output(display_name="plot", tooltip="The curves alone, as one picture."),
                io.String.Output(display_name="report", tooltip="The numbers of every clip as JSON."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        clip_1: Tensor,
        clip_2: Tensor,
        clip_3: Tensor | None = None,
        clip_4: Tensor | None = None,
        clip_vision: Any | None = None,
        labels: str = "",
    ) -> io.NodeOutput:
        clips = [clip for clip in (clip_1, clip_2, clip_3, clip_4) if clip is not None]
        named = dict(zip(clip_labels(labels, len(clips)), clips, strict=True))
        samples = {name: sample_of(frames, image, clip_vision=clip_vision) for name, frames in named.items()}
        results = {name: measure_clip(sample, NAMES) for name, sample in samples.items()}
        shown = main_curve(*next(iter(results.values())))
        curves = {name: values[shown] for name, (values, _) in results.items()}
        shown_frames = {name: pixels_to_frames(sample.clip) for name, sample in samples.items()}
        images = compare_frames(shown_frames, curves, MEASURES[shown].label)
        report = {name: {"values": values, "not measured": errors} for name, (values, errors) in results.items()}
        return io.NodeOutput(images, draw_plot(curves, MEASURES[shown].label)[None], json.dumps(report, indent=1))
