"""Image retention: DreamVideo (arXiv:2312.03018, sections 4.1 to 4.3): a side branch that sees the image's pixels."""

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from ..conditions import Conditions
from ..model.image_retention import ImageRetention, ImageRetentionConfig
from ..model.seams import Seams
from ..model.video_unet import VideoUNet
from .method import Base, Method, NetworkCall, Training, is_temporal


@dataclass(frozen=True)
class ImageRetentionOptions:
    """`temporal_layers`: fine-tune the base's temporal layers jointly."""

    temporal_layers: bool = True


def new_branch(base: Base, config: ImageRetentionConfig) -> ImageRetention:
    """A branch that starts as a copy of its base and adds nothing to it yet."""
    return ImageRetention.beside(base.unet, config)


def trains(name: str, options: ImageRetentionOptions) -> bool:
    """A weight of the base is trained: those of temporal layers."""
    return options.temporal_layers and is_temporal(name)


def usual(base: Any, folder: Any) -> dict[str, Any]:
    """A stem that halves the picture down to the latents of this base's autoencoder."""
    downscale = 8 if base.autoencoder_config is None else base.autoencoder_config.downscale
    return {} if downscale == 8 else {"adapter": {"stem_channels": [16 << i for i in range(downscale.bit_length())]}}


@dataclass(frozen=True)
class ImageRetentionMethod(Method):
    """The branch's residuals (equation 3), `strength` times."""

    module: ImageRetention
    strength: float = 1.0

    kind: ClassVar = "image_retention"
    config: ClassVar = ImageRetentionConfig
    build: ClassVar = ImageRetention
    training: ClassVar = Training(
        names=("image_retention",),
        options=ImageRetentionOptions,
        new=new_branch,
        trains=trains,
        # The paper names no rate; this one suits fine-tuning of large networks, as DynamiCrafter's second stage.
        learning_rates=lambda options: {"adapter": 5e-5, "unet": 5e-5},
        image_drop=0.1,
        data={"frame_stride": 4},
        usual=usual,
    )

    def check(self, network: VideoUNet) -> None:
        if self.module.config.unet == network.config:
            return
        theirs, own = asdict(self.module.config.unet), asdict(network.config)
        name = next(name for name in own if own[name] != theirs[name])
        raise ValueError(
            f"the image retention branch was trained beside another base, whose {name} is {theirs[name]} and the "
            f"model's {own[name]}; use the base that the adapter's page names"
        )

    def prepare(self, conditions: Conditions) -> Conditions:
        if conditions.image_hint is not None:
            return conditions
        if conditions.image is None:
            raise ValueError("image retention needs the given image's pixels, got conditions.image None; white is none")
        return replace(conditions, image_hint=self.module.hint(conditions.image))

    def seams(self, call: NetworkCall) -> Seams:
        hint = call.conditions.image_hint
        assert hint is not None  # `prepare` has found it
        return Seams(residuals=self.module(**call.inputs, hint=hint, strength=self.strength))
