"""The measures of one clip by name: what they look at, how to read them, which control rows they can tell apart."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import torch
from einops import rearrange
from torch import Tensor

from ..data.moving_crops import PHRASES
from ..metrics import drift, motion, pixels, similarity
from ..metrics.camera_motion import measure_camera_motion
from ..metrics.checks import finite, same_shape

Value = float | list[float]
T = TypeVar("T")
MOST_PSNR = 100.0  # what equal pictures count, so that means stay finite
FLOW_RATE = 8.0  # frames per second at which VBench looks at flow


class Missing(ValueError):
    """A measure lacks something; the sentence says what to bring."""


@dataclass(frozen=True)
class FeatureEncoders:
    """Networks of the measures; a sentence in the place of one says why it is not there.

    Attributes:
        frames: a clip `c t h w` in [-1, 1] to embeddings `t d`; text: a sentence to `d`; both of one CLIP.
        flow: a clip to its flow `t-1 2 h w`.
    """

    frames: Callable[[Tensor], Tensor] | str
    text: Callable[[str], Tensor] | str
    flow: Callable[[Tensor], Tensor] | str


class Sample:
    """One clip and what belongs to it; embeddings and flow are computed once, when a measure asks."""

    def __init__(
        self,
        clip: Tensor,
        encoders: FeatureEncoders,
        *,
        reference: Tensor | None = None,
        image: Tensor | None = None,
        caption: str | None = None,
        fps: float = FLOW_RATE,
    ) -> None:
        """Take a clip and its reference, both `c t h w`, and the given image `c h w`, all in [-1, 1]."""
        self.clip, self.encoders, self.fps = clip, encoders, fps
        self._reference, self._image, self._caption = reference, image, caption

    @property
    def reference(self) -> Tensor:
        reference = _given(self._reference, "a ground-truth clip: name a folder with --references")
        same_shape(self.clip, reference, "The clip and its ground truth")
        return reference

    @property
    def image(self) -> Tensor:
        image = self._reference[:, 0] if self._image is None and self._reference is not None else self._image
        image = _given(image, "the given image: a picture of the clip's name, or its ground truth")
        same_shape(self.clip[:, 0], image, "The first frame and the given image")
        return image

    @property
    def real_frame(self) -> Tensor:
        """The first real frame; of a clip without ground truth the given image, which it is by definition."""
        return self.image if self._reference is None else self.reference[:, 0]

    @property
    def caption(self) -> str:
        return _given(self._caption, "a caption: a text file of the clip's name, or --captions")

    @cached_property
    def embeddings(self) -> Tensor:
        return _network(self.encoders.frames)(self.clip)

    @cached_property
    def image_embedding(self) -> Tensor:
        return _network(self.encoders.frames)(self.image[:, None])[0]

    @cached_property
    def real_embedding(self) -> Tensor:
        return _network(self.encoders.frames)(self.real_frame[:, None])[0]

    @cached_property
    def text_embedding(self) -> Tensor:
        caption = self.caption
        return _network(self.encoders.text)(caption)

    @cached_property
    def isim(self) -> Tensor:
        return similarity.isim_curve(self.embeddings, self.image_embedding)

    @cached_property
    def flow(self) -> Tensor:
        return _network(self.encoders.flow)(self.clip[:, :: max(1, round(self.fps / FLOW_RATE))])


@dataclass(frozen=True)
class Measure:
    """One number, or one for each frame, of a clip.

    Attributes:
        label: for people; `note`: what must be known to read it.
        compute: the value of a sample.
        orders: pairs of rows, the first of which must score higher on real data.
        digits: after the point, in tables.
        first: number of frames that the first value of a curve stands for.
    """

    label: str
    note: str
    compute: Callable[[Sample], Tensor]
    orders: tuple[tuple[str, str], ...] = ()
    digits: int = 3
    first: int = 1

    def __call__(self, sample: Sample) -> Value:
        """Raises ValueError with one sentence if the sample cannot be measured."""
        return finite(self.compute(sample), "The values").tolist()


def asked_motion(caption: str) -> str | None:
    """The camera move that a caption names last, of left, right, up, down, in, out, still; None if it names none."""
    ends = {
        name: max(
            (match.end() for phrase in phrases for match in re.finditer(rf"\b{phrase}\b", caption.lower())), default=0
        )
        for name, phrases in PHRASES.items()
    }
    found = max(ends, key=ends.__getitem__)
    return found if ends[found] else None


def measure_clip(sample: Sample, names: list[str] | None = None) -> tuple[dict[str, Value], dict[str, str]]:
    """Values by measure, and for those that could not be taken the sentence why; None takes all."""
    values: dict[str, Value] = {}
    errors: dict[str, str] = {}
    for name in names or MEASURES:
        try:
            values[name] = MEASURES[name](sample)
        except ValueError as error:
            errors[name] = str(error)
    return values, errors


def _given(value: T | None, needed: str) -> T:
    if value is None:
        raise Missing(f"This measure needs {needed}.")
    return value


def _network(network: Callable[..., Tensor] | str) -> Callable[..., Tensor]:
    if isinstance(network, str):
        raise Missing(network)
    return network


def _frame_psnr(sample: Sample) -> Tensor:
    return _capped(pixels.psnr(_frames(sample.clip), _frames(sample.reference)))


def _frames(clip: Tensor) -> Tensor:
    return rearrange(clip, "c t h w -> t c h w")


def _capped(decibels: Tensor) -> Tensor:
    return decibels.clamp_max(MOST_PSNR)


def _image_psnr_curve(sample: Sample) -> Tensor:
    return _capped(pixels.psnr(_frames(sample.clip), sample.image))


def _image_ssim_curve(sample: Sample) -> Tensor:
    frames = _frames(sample.clip)
    return pixels.ssim(frames, sample.image.expand_as(frames))


def _mean_drift(measure: Callable[[Tensor], Tensor], sample: Sample) -> Tensor:
    return drift.drift_curve(measure, sample.clip, sample.image).abs().mean()


def _follows_caption(sample: Sample) -> Tensor:
    asked = asked_motion(sample.caption)
    if asked is None:
        raise Missing("The caption names no camera move (pan left, zoom in, still, ...), so none can be followed.")
    return torch.tensor(float(measure_camera_motion(sample.clip).motion == asked))


FROZEN, SHUFFLED, NOISE = ("truth", "frozen"), ("truth", "shuffled"), ("truth", "noise")
MORE_ALIKE = (("frozen", "truth"), NOISE)
DRIFT = "Mean absolute difference of the frames to the given image; 0 to 1."

MEASURES: Mapping[str, Measure] = {
    "isim": Measure("ISIM curve", "Similarity of every frame to the given image.", lambda s: s.isim),
    "isim_first": Measure("ISIM(1st)", "Cannot tell a frozen clip.", lambda s: similarity.isim_first(s.isim), (NOISE,)),
    "isim_average": Measure(
        "ISIM(Avg)", "A frozen clip scores 1: above the ground truth is not better.",
        lambda s: similarity.isim_average(s.isim), MORE_ALIKE,
    ),
    "isim_decay": Measure(
        "ISIM decay", "(first - last) / (frames - 1); a frozen clip scores 0.",
        lambda s: similarity.isim_decay(s.isim), (FROZEN,), 5,
    ),
    "isim_decay_slope": Measure(
        "ISIM decay, slope", "Negated least-squares slope.",
        lambda s: similarity.isim_decay(s.isim, "slope"), (FROZEN, SHUFFLED), 5,
    ),
    "f_consistency": Measure(
        "F-Consistency over the number of frames", "All pairs of the first frames, x100 (TRIP, Figure 4).",
        lambda s: similarity.frame_consistency_curve(s.embeddings), (), 2, 2,
    ),
    "f_consistency_4": Measure(
        "F-Consistency_4", "All pairs of the first 4 frames, x100.",
        lambda s: similarity.frame_consistency(s.embeddings, 4), MORE_ALIKE, 2,
    ),
    "f_consistency_all": Measure(
        "F-Consistency_all", "All pairs, x100; knows nothing of their order.",
        lambda s: similarity.frame_consistency(s.embeddings), MORE_ALIKE, 2,
    ),
    "f_consistency_consecutive": Measure(
        "F-Consistency, consecutive", "Neighboring frames, x100.",
        lambda s: similarity.frame_consistency(s.embeddings, pairs="consecutive"), (*MORE_ALIKE, SHUFFLED), 2,
    ),
    "fff_clip": Measure(
        "FFF_CLIP", "First frame against the first real one; cannot tell a frozen clip.",
        lambda s: similarity.first_frame_similarity(s.embeddings, s.real_embedding), (NOISE,),
    ),
    "clipsim": Measure(
        "CLIPSIM", "Similarity of the frames to the caption, x100.",
        lambda s: similarity.clipsim(s.embeddings, s.text_embedding), (("truth", "wrong caption"),), 2,
    ),
    "subject_consistency": Measure(
        "subject consistency", "VBench's formula, on this embedding.",
        lambda s: similarity.subject_consistency(s.embeddings), (*MORE_ALIKE, SHUFFLED),
    ),
    "image_consistency": Measure(
        "image consistency", "VBench-I2V's formula, on this embedding.",
        lambda s: similarity.image_consistency(s.embeddings, s.image_embedding), (*MORE_ALIKE, SHUFFLED),
    ),
    "image_psnr": Measure("PSNR to the given image", "Every frame, in dB.", _image_psnr_curve, (), 2),
    "image_ssim": Measure("SSIM to the given image", "Every frame.", _image_ssim_curve),
    "first_frame_psnr": Measure(
        "PSNR of the first frame", "To the given image, in dB; cannot tell a frozen clip.",
        lambda s: _capped(pixels.psnr(s.clip[:, 0], s.image)), (NOISE,), 2,
    ),
    "fff_ssim": Measure(
        "FFF_SSIM", "First frame against the first real one; cannot tell a frozen clip.",
        lambda s: pixels.first_frame_ssim(s.clip, s.real_frame), (NOISE,),
    ),
    "psnr": Measure(
        "PSNR", "To the ground truth, in dB; equal frames count 100.",
        lambda s: _frame_psnr(s).mean(), (FROZEN, SHUFFLED, NOISE), 2,
    ),
    "ssim": Measure(
        "SSIM", "To the ground truth.",
        lambda s: pixels.ssim(_frames(s.clip), _frames(s.reference)).mean(), (FROZEN, SHUFFLED, NOISE),
    ),
    "motion_amount": Measure(
        "amount of motion", "Mean frame difference, 0 to 1; compare with the ground truth's.",
        lambda s: motion.motion_amount(s.clip), (FROZEN, ("shuffled", "truth"), ("noise", "truth")), 4,
    ),
    "jerk": Measure(
        "jerk", "Mean second difference; as large as the ground truth's is as smooth.",
        lambda s: motion.jerk(s.clip), (FROZEN, ("shuffled", "truth"), ("noise", "truth")), 4,
    ),
    "temporal_flickering": Measure(
        "temporal flickering", "VBench's, 1 is calm; meant for prompts that ask for stillness.",
        lambda s: motion.temporal_flickering(s.clip), (("frozen", "truth"), SHUFFLED, NOISE), 4,
    ),
    "flow_amount": Measure(
        "flow", "Mean optical flow in pixels per frame at 8 frames per second.",
        lambda s: motion.flow_amount(s.flow), (FROZEN,), 2,
    ),
    "dynamic_degree": Measure(
        "dynamic degree", "Share of clips that move, VBench's rule.",
        lambda s: motion.dynamic_degree(s.flow), (FROZEN,), 2,
    ),
    "brightness_drift": Measure(
        "brightness drift", DRIFT, partial(_mean_drift, drift.brightness), (FROZEN,), 4,
    ),
    "contrast_drift": Measure(
        "contrast drift", DRIFT, partial(_mean_drift, drift.contrast), (FROZEN, ("noise", "truth")), 4,
    ),
    "saturation_drift": Measure(
        "saturation drift", DRIFT, partial(_mean_drift, drift.saturation), (FROZEN, ("noise", "truth")), 4,
    ),
    "motion_follow": Measure(
        "camera move of the caption", "Share of clips that move as named; cannot tell a shuffled clip.",
        _follows_caption, (FROZEN, NOISE, ("truth", "wrong caption")), 2,
    ),
}  # fmt: skip
CURVES = ("isim", "f_consistency", "image_psnr", "image_ssim")
