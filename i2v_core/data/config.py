"""Section `data` of a training configuration."""

import math
from dataclasses import dataclass
from typing import Literal

from ..decoding import RATES, SEEDS, check_ranges


@dataclass(frozen=True)
class DataConfig:
    """The clips that a run trains on, and how they are cut out of the files.

    Args:
        path: a folder, a metadata file (.jsonl, .csv) or a .tar archive; see `layouts.py`.
        frames: of a clip.
        height, width: of a clip in pixels; files are resized and cropped around the center.
        target_fps: frames are taken by time, so many a second. Otherwise every `frame_stride`-th frame is taken.
        frame_stride, frame_stride_max: with both, the stride of a clip is drawn between them.
        run_frames: at most so many consecutive frames of a file are used, 0 for all: bounds what a cache holds.
        rand_cond_frame: the given picture is any frame of the clip (DynamiCrafter), otherwise the first.
        avoid_cuts: no clip runs over a scene cut. Decodes every file once; what it finds is kept.
        cut_threshold: how much of the whole range pictures must change by, in the mean, to count as a cut.
        image_fps: frames per second of folders of pictures, which do not tell.
        aspect_buckets: clips keep about their aspect ratio; all sizes have at most `height` times `width` pixels.
        bucket_step: sides of buckets are multiples of it.
        group: how many consecutive items have one size, where sizes differ: a multiple of the clips in a batch, better
            of those in a batch of all processes.
        cache_directory: for what was found out about the files, and for latents. Empty: `.i2v_cache` beside the data.
        cache_latents: encode every clip once and train on what was kept.
        cache_dtype: of kept latents and text.
        seed: of the order of the clips and of where each begins.
        confined: nothing is read that lies outside of the data's own folder, whatever a table or a link in it names.
    """

    path: str
    frames: int = 16
    height: int = 256
    width: int = 256
    target_fps: float | None = None
    frame_stride: int = 1
    frame_stride_max: int | None = None
    run_frames: int = 0
    rand_cond_frame: bool = False
    avoid_cuts: bool = True
    cut_threshold: float = 0.08
    image_fps: float | None = None
    aspect_buckets: bool = False
    bucket_step: int = 64
    group: int = 1
    cache_directory: str = ""
    cache_latents: bool = False
    cache_dtype: Literal["float16", "float32", "bfloat16"] = "float16"
    seed: int = 0
    confined: bool = False

    def __post_init__(self) -> None:
        for name in ("frames", "height", "width", "frame_stride", "bucket_step", "group"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} should be at least 1, got {getattr(self, name)}")
        check_ranges(self, "data", seed=SEEDS, target_fps=RATES, image_fps=RATES, run_frames=(0, math.inf))
        if not len(self.strides):
            raise ValueError(f"data.frame_stride_max {self.frame_stride_max} is below frame_stride {self.frame_stride}")
        if self.target_fps is not None and self.strides != range(1, 2):
            raise ValueError(
                "data takes frames by time (target_fps, a positive number) or by number (frame_stride), "
                f"got target_fps {self.target_fps} with frame_stride {self.frame_stride} to {self.strides[-1]}"
            )

    @property
    def strides(self) -> range:
        """The strides that clips are drawn with."""
        return range(self.frame_stride, (self.frame_stride_max or self.frame_stride) + 1)
