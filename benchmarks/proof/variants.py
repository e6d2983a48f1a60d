"""The networks that are compared: each an adapter trained on one of the two bases, alike but for what its row names."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from i2v_core.model.look_back import LookBack, LookBackConfig
from i2v_core.model.video_unet import VideoUNet
from i2v_core.training.adapter import Method
from i2v_core.training.config import ConditioningConfig
from i2v_core.training.dynamicrafter import DYNAMICRAFTER
from i2v_core.training.image_retention import IMAGE_RETENTION
from i2v_core.training.look_back import LOOK_BACK
from i2v_core.training.temporal_noise_fusion import TEMPORAL_NOISE_FUSION

from .frame_attention import FrameAttention

Base = Literal["text_to_image", "text_to_video"]


@dataclass(frozen=True)
class Variant:
    """One training.

    Attributes:
        adapter, options, conditioning: as in a training configuration.
    """

    base: Base
    method: Method
    adapter: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)


def _without_convolution(unet: VideoUNet, config: LookBackConfig) -> LookBack:
    """Look-back whose depth-wise 3D convolution stays the identity."""
    look_back: LookBack = LOOK_BACK.build(unet, config)  # type: ignore[assignment]
    for name, parameter in look_back.named_parameters():
        if ".adapter." in name:
            parameter.requires_grad_(False)
    return look_back


LOOK_BACK_ONLY = replace(LOOK_BACK, build=_without_convolution)
FRAMES_OF_ATTENTION = 16  # codes; shorter clips use the first
ATTENTION, MASKED_ATTENTION = (
    replace(LOOK_BACK, build=partial(FrameAttention.beside, frames=FRAMES_OF_ATTENTION, masked=masked))
    for masked in (False, True)
)
BLOCKS = {"placement": "block", "depth": 3, "kernel": 3}
FUSION = {"features": 128, "heads": 4}
NO_CHANNELS = {"channels": 16}
SMALL_PROJECTION = {"features": 96, "depth": 2, "heads": 3, "head_dim": 32, "queries": 4, "frames": 8}
SMALL_ENCODER = {"size": 32, "patch": 4, "features": 96, "layers": 3, "heads": 3}
PROJECTION = {"projection": SMALL_PROJECTION, "encoder": SMALL_ENCODER}
ALL_TRAINED = {"stage": 2}


def _projection(adapter: Mapping[str, Any], **options: Any) -> Variant:
    return Variant("text_to_video", DYNAMICRAFTER, {**PROJECTION, **adapter}, {**ALL_TRAINED, **options})


VARIANTS: dict[str, Variant] = {
    "look_back": Variant("text_to_image", LOOK_BACK, BLOCKS),
    "look_back_noised": Variant("text_to_image", LOOK_BACK, BLOCKS, {"initialization": "add_noise"}),
    "look_back_only": Variant("text_to_image", LOOK_BACK_ONLY, BLOCKS),
    # A recurrence of depth 1 sees the frame itself alone, so that frames meet in the 3D convolution only.
    "convolution_only": Variant("text_to_image", LOOK_BACK, BLOCKS | {"depth": 1}),
    "attention": Variant("text_to_image", ATTENTION, {"placement": "block"}),
    "masked_attention": Variant("text_to_image", MASKED_ATTENTION, {"placement": "block"}),
    "trip": Variant("text_to_video", TEMPORAL_NOISE_FUSION, FUSION | NO_CHANNELS),
    "trip_without_prior": Variant(
        "text_to_video", TEMPORAL_NOISE_FUSION, {"fusion": "none"} | NO_CHANNELS
    ),
    "trip_linear": Variant(
        "text_to_video", TEMPORAL_NOISE_FUSION, {"fusion": "linear"} | NO_CHANNELS
    ),
    "trip_end": Variant(
        "text_to_video", TEMPORAL_NOISE_FUSION, FUSION | NO_CHANNELS | {"position": "end"}
    ),
    "trip_channel": Variant(
        "text_to_video", TEMPORAL_NOISE_FUSION, FUSION | NO_CHANNELS | {"position": "channel"}
    ),
    "projection": _projection({}),
    "projection_global": _projection({"projection": SMALL_PROJECTION | {"visual_tokens": "global"}}),
    "projection_detail": _projection({"injection": {"visual_detail": {}}}),
    "projection_only": _projection({}, stage=1),
    "dream": Variant("text_to_video", IMAGE_RETENTION, {"stem_channels": [16, 32, 64]}),
    "dream_undropped": Variant(
        "text_to_video", IMAGE_RETENTION, {"stem_channels": [16, 32, 64]},
        conditioning=ConditioningConfig(text_drop=0.0, image_drop=0.0),
    ),
}  # fmt: skip
