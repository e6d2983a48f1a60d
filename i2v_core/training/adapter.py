"""An adapter in training: what every method shares, and the little that each says of itself.

A new method is one file: options as a frozen dataclass, a function that builds the network at its start, and a `loss`
written with the help of `Lesson` (time steps, drops, conditions, noise and weights are there). `METHODS` in
`methods.py` gives it a name; its result is an adapter file of one of the kinds in `weights.adapters.ADAPTERS`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import nn

from ..data.clips import ClipBatch
from ..denoiser import Denoiser
from ..model.video_unet import VideoUNet
from ..weights import Checkpoint
from .config import ConditioningConfig, TrainingConfig
from .draws import Draws
from .lesson import ClipLosses, Lesson

# By the base's own names: temporal convolutions lie in every residual block, temporal transformers third in a block.
TEMPORAL = re.compile(
    r"\.temopral_conv\.|^init_attn\.|"
    r"^(input_blocks\.\d+|middle_block|output_blocks\.\d+)\.2\.(norm|proj_in|proj_out|transformer_blocks)\."
)


@dataclass(frozen=True)
class Method:
    """How adapters of one kind are trained.

    Attributes:
        kind: of the result, a key in `weights.adapters.ADAPTERS`.
        options: frozen dataclass of what `[method.options]` may hold.
        build: (base U-Net, adapter's configuration) -> the adapter's network, at its start.
        beside: (checkpoint, adapter's configuration) -> the same, where a method takes more than a base's U-Net.
        loss: what clips cost. The adapter is where generation has it, in the denoiser.
        trained_along: (name of a weight of the base, options) -> whether it is trained, and saved with the adapter.
        prepare: (denoiser with the adapter, options) -> denoiser as trained, where options change it.
        learning_rates: the paper's, by network ("adapter", "unet"); taken where a configuration names none.
        text_drop, image_drop: the paper's shares; None for a method that cannot do without the image.
    """

    kind: str
    options: type[Any]
    build: Callable[[VideoUNet, Any], nn.Module]
    loss: Callable[[Lesson, ClipBatch, Draws], ClipLosses]
    trained_along: Callable[[str, Any], bool]
    prepare: Callable[[Denoiser, Any], Denoiser] = lambda denoiser, _: denoiser
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    text_drop: float = 0.1
    image_drop: float | None = None
    beside: Callable[[Checkpoint, Any], nn.Module] | None = None

    def new_network(self, checkpoint: Checkpoint, config: Any) -> nn.Module:
        """The adapter's network at its start, beside this base."""
        return self.build(checkpoint.unet, config) if self.beside is None else self.beside(checkpoint, config)


def attach(method: Method, checkpoint: Checkpoint, adapter: nn.Module, options: Any) -> Denoiser:
    """Put an adapter's network where generation has it: beside the base's, in the denoiser."""
    denoiser = replace(Denoiser.of(checkpoint.unet, checkpoint.preset), **cast(Any, {method.kind: adapter}))
    return method.prepare(denoiser, options)


def lesson(method: Method, config: TrainingConfig, checkpoint: Checkpoint, adapter: nn.Module, options: Any) -> Lesson:
    """What the method's loss needs; raises ValueError for settings that the method or the base does not allow."""
    denoiser = attach(method, checkpoint, adapter, options)
    prediction = config.diffusion.prediction
    if prediction not in (None, denoiser.prediction):
        raise ValueError(
            f"diffusion.prediction is '{prediction}', but the base predicts '{denoiser.prediction}', and an adapter "
            "keeps what its base predicts; leave the key out"
        )
    conditioning = with_drops(config.conditioning, method.text_drop, method.image_drop)
    return Lesson(denoiser, checkpoint, options, config.diffusion, conditioning)


def with_drops(config: ConditioningConfig, text_drop: float, image_drop: float | None) -> ConditioningConfig:
    """The shares of a configuration, a method's where it has none; raises ValueError for images that cannot be lost."""
    if image_drop is None and (config.image_drop or config.drop_mode == "exclusive"):
        raise ValueError("this method cannot do without the image; leave out conditioning.image_drop and drop_mode")
    return replace(
        config,
        text_drop=text_drop if config.text_drop is None else config.text_drop,
        image_drop=(image_drop or 0.0) if config.image_drop is None else config.image_drop,
    )


def is_temporal(name: str) -> bool:
    """Whether a weight of a base with temporal layers belongs to one of them, by its name."""
    return TEMPORAL.search(name) is not None
