"""The protocol of a method, and the one registry that adapter files, generation, training and the nodes read.

A new method is a registered subclass of `Method`: by its kind, configuration and module it has adapter files; by the
hooks that it overrides it works in the denoiser and in a host; by its `Training` it is trained.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from torch import Tensor, nn

from ..conditions import Conditions
from ..diffusion.prediction import Prediction
from ..diffusion.schedule import Schedule
from ..model.image_encoder import ImageEncoder
from ..model.image_projection import ImageProjection
from ..model.look_back import LookBackState
from ..model.seams import Seams
from ..model.video_unet import VideoUNet

# By the base's own names: temporal convolutions lie in every residual block, temporal transformers third in a block.
TEMPORAL = re.compile(
    r"\.temopral_conv\.|^init_attn\.|"
    r"^(input_blocks\.\d+|middle_block|output_blocks\.\d+)\.2\.(norm|proj_in|proj_out|transformer_blocks)\."
)


@dataclass(frozen=True)
class NetworkCall:
    """One call of the base network on noised clips.

    Attributes:
        x: the network's input, `b c t h w`, in `Method.around` without concatenated image channels.
        timesteps: in [0, T), `b`.
        conditions: of the same `b` clips, prepared.
        carried: what look-back carries along a video in pieces; None for a video at once.
    """

    x: Tensor
    timesteps: Tensor
    conditions: Conditions
    carried: LookBackState | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """Arguments of `VideoUNet.forward`."""
        given = self.conditions
        return {
            "x": self.x,
            "timesteps": self.timesteps,
            "text": given.text,
            "image_tokens": given.image_tokens,
            "fps": given.fps,
            "pooled_text": given.pooled_text,
        }


Network = Callable[[NetworkCall], Tensor]


class Base(Protocol):
    """Networks of the base checkpoint that a new adapter may take over."""

    @property
    def unet(self) -> VideoUNet: ...
    @property
    def image_projection(self) -> ImageProjection | None: ...
    @property
    def image_encoder(self) -> Any | None: ...


@dataclass(frozen=True)
class Tools:
    """Functions that a training lends to a method whose options name files.

    Attributes:
        read_adapter: (path) -> the contents of an adapter file.
        train_image_encoder: (encoder, file of its weights, steps) trains a small image encoder where there is no file.
    """

    read_adapter: Callable[[Any], Any]
    train_image_encoder: Callable[[ImageEncoder, Path, int], None]


@dataclass(frozen=True)
class Training:
    """Training of a method.

    Attributes:
        names: by which a configuration calls it, the paper's own first.
        options: frozen dataclass of what `[method.options]` may hold.
        new: (base, adapter's configuration) -> the adapter's module at its start.
        trains: (name of a weight of the base, options) -> whether it is trained, and saved with the adapter.
        learning_rates: (options) -> the paper's, by network ("adapter", "unet"), where a configuration names none.
        text_drop, image_drop: the paper's shares; None for a method that cannot do without the image.
        drop_mode: how the paper draws them, as in `ConditioningConfig`.
        data: what section `data` says of files where a configuration does not: the paper's frames in time.
        begin: (module, options, tools) gives a new module the weights that the options name.
        usual: (the base's contents, folder of the run) -> what section `method` usually says, for one card.
    """

    names: tuple[str, ...]
    options: type[Any]
    new: Callable[[Base, Any], nn.Module]
    trains: Callable[[str, Any], bool]
    learning_rates: Callable[[Any], Mapping[str, float]] = lambda options: {}
    text_drop: float = 0.1
    image_drop: float | None = None
    drop_mode: Literal["independent", "exclusive"] = "independent"
    data: Mapping[str, Any] = field(default_factory=dict)
    begin: Callable[[Any, Any, Tools], None] = lambda module, options, tools: None
    usual: Callable[[Any, Any], dict[str, Any]] = lambda base, folder: {}


@dataclass(frozen=True)
class Method:
    """A method at work beside a base; every hook does nothing unless the method overrides it.

    Attributes:
        module: the adapter's network.
    """

    module: Any

    kind: ClassVar[str]  # of adapter files
    config: ClassVar[type[Any]]  # of the module
    build: ClassVar[Callable[..., nn.Module]]  # the module's class
    training: ClassVar[Training | None] = None

    @classmethod
    def of(cls, module: Any, options: Any = None) -> "Method":
        """The method with an adapter's module, as the options of its training say."""
        return cls(module)

    @property
    def sees_image(self) -> bool:
        """The image's latent reaches the base through this method, so that the base may lack channels for it."""
        return True

    def check(self, network: VideoUNet) -> None:
        """Raise ValueError for a base to which the adapter does not belong, naming the first mismatch."""

    def prepare(self, conditions: Conditions) -> Conditions:
        """Add what stays the same at every step; raises ValueError if that needs an image and there is none."""
        return conditions

    def without_image(self, conditions: Conditions, given: Conditions) -> Conditions:
        """Conditions without the image, made as this method was trained; `given` are those with it."""
        return conditions

    def seams(self, call: NetworkCall) -> Seams:
        """The method's contribution to this call of the network."""
        return Seams()

    def around(self, call: NetworkCall, network: Network, schedule: Schedule, prediction: Prediction) -> Tensor:
        """The raw prediction, `b c t h w`, from the network's answer to a call; of the base's schedule and kind."""
        return network(call)


METHODS: dict[str, type[Method]] = {}
M = TypeVar("M", bound=type[Method])


def register(method: M) -> M:
    """Enter a method under its kind."""
    METHODS[method.kind] = method
    return method


def is_temporal(name: str) -> bool:
    """A weight of a base with temporal layers belongs to one of them, by its name."""
    return TEMPORAL.search(name) is not None
