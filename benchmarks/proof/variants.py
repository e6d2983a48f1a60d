"""The networks that are compared: each an adapter trained on one of the two bases, alike but for what its row names."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from i2v_core.methods import ImageProjectionMethod, ImageRetentionMethod, LookBackMethod, Method, TripMethod
from i2v_core.methods.look_back import new_look_back
from i2v_core.methods.method import Base as Checkpoint
from i2v_core.model.look_back import LookBack, LookBackConfig
from i2v_core.training.config import ConditioningConfig

from .frame_attention import FrameAttention

Base = Literal["text_to_image", "text_to_video"]


@dataclass(frozen=True)
class Variant:
    """One training.

    Attributes:
        adapter, options, conditioning: as in a training configuration.
    """

    base: Base
    method: type[Method]
    adapter: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)


def _without_convolution(base: Checkpoint, config: LookBackConfig) -> LookBack:
    """Look-back whose depth-wise 3D convolution stays the identity."""
    look_back = new_look_back(base, config)
    for name, parameter in look_back.named_parameters():
        if ".adapter." in name:
            parameter.requires_grad_(False)
    return look_back


FRAMES_OF_ATTENTION = 16  # codes; shorter clips use the first


class LookBackOnly(LookBackMethod):
    training = replace(LookBackMethod.training, new=_without_convolution)


class Attention(LookBackMethod):
    training = replace(
        LookBackMethod.training, new=partial(FrameAttention.beside, frames=FRAMES_OF_ATTENTION, masked=False)
    )


class MaskedAttention(LookBackMethod):
    training = replace(
        LookBackMethod.training, new=partial(FrameAttention.beside, frames=FRAMES_OF_ATTENTION, masked=True)
    )


BLOCKS = {"placement": "block", "depth": 3, "kernel": 3}
FUSION = {"features": 128, "heads": 4}
NO_CHANNELS = {"channels": 16}
SMALL_PROJECTION = {"features": 96, "depth": 2, "heads": 3, "head_dim": 32, "queries": 4, "frames": 8}
SMALL_ENCODER = {"size": 32, "patch": 4, "features": 96, "layers": 3, "heads": 3}
PROJECTION = {"projection": SMALL_PROJECTION, "encoder": SMALL_ENCODER}
ALL_TRAINED = {"stage": 2}


def _projection(adapter: Mapping[str, Any], **options: Any) -> Variant:
    return Variant("text_to_video", ImageProjectionMethod, {**PROJECTION, **adapter}, {**ALL_TRAINED, **options})


VARIANTS: dict[str, Variant] = {
    "look_back": Variant("text_to_image", LookBackMethod, BLOCKS),
    "look_back_noised": Variant("text_to_image", LookBackMethod, BLOCKS, {"initialization": "add_noise"}),
    "look_back_only": Variant("text_to_image", LookBackOnly, BLOCKS),
    # A recurrence of depth 1 sees the frame itself alone, so that frames meet in the 3D convolution only.
    "convolution_only": Variant("text_to_image", LookBackMethod, BLOCKS | {"depth": 1}),
    "attention": Variant("text_to_image", Attention, {"placement": "block"}),
    "masked_attention": Variant("text_to_image", MaskedAttention, {"placement": "block"}),
    "trip": Variant("text_to_video", TripMethod, FUSION | NO_CHANNELS),
    "trip_without_prior": Variant(
        "text_to_video", TripMethod, {"fusion": "none"} | NO_CHANNELS
    ),
    "trip_linear": Variant(
        "text_to_video", TripMethod, {"fusion": "linear"} | NO_CHANNELS
    ),
    "trip_end": Variant(
        "text_to_video", TripMethod, FUSION | NO_CHANNELS | {"position": "end"}
    ),
    "trip_channel": Variant(
        "text_to_video", TripMethod, FUSION | NO_CHANNELS | {"position": "channel"}
    ),
    "projection": _projection({}),
    "projection_global": _projection({"projection": SMALL_PROJECTION | {"visual_tokens": "global"}}),
    "projection_detail": _projection({"injection": {"visual_detail": {}}}),
    "projection_only": _projection({}, stage=1),
    "dream": Variant("text_to_video", ImageRetentionMethod, {"stem_channels": [16, 32, 64]}),
    "dream_undropped": Variant(
        "text_to_video", ImageRetentionMethod, {"stem_channels": [16, 32, 64]},
        conditioning=ConditioningConfig(text_drop=0.0, image_drop=0.0),
    ),
}  # fmt: skip
