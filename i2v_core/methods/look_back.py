"""Look-back: "Implicit Semi-auto-regressive Image-to-Video Diffusion": layers after blocks, and the given frame 0."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..diffusion.initialization import Initialization, InitializationName
from ..model.look_back import LookBack, LookBackConfig, LookBackState, check_sites, find_sites, initialize_look_back
from ..model.seams import AfterBlock, Seams
from ..model.video_unet import VideoUNet, VideoUNetConfig
from .method import Base, Method, NetworkCall, Training


@dataclass(frozen=True)
class LookBackOptions:
    """Options of a training's configuration.

    Attributes:
        initialization: what the network sees of the first frame.
        trained_along: beginnings of the names of the base's weights that are fine-tuned jointly.
    """

    initialization: InitializationName = "hybrid"
    trained_along: tuple[str, ...] = ()


def new_look_back(base: Base, config: LookBackConfig) -> LookBack:
    """Look-back at its start, the identity, with the sites of this U-Net if the configuration lists none."""
    if not config.sites:
        config = replace(config, sites=sites_of(base.unet.config, config))
    look_back = LookBack(config)
    initialize_look_back(look_back)
    return look_back


def sites_of(unet: VideoUNetConfig, config: LookBackConfig) -> dict[str, int]:
    """The sites of a placement in our own U-Net."""
    return find_sites(config.placement, unet.model_channels, unet.channel_mult, unet.num_res_blocks)


@dataclass(frozen=True)
class LookBackMethod(Method):
    """Look-back layers after blocks (section 2.2), and how the clip begins with the given image (section 2.3)."""

    module: LookBack
    initialization: Initialization = field(default_factory=Initialization)

    kind: ClassVar = "look_back"
    config: ClassVar = LookBackConfig
    build: ClassVar = LookBack
    training: ClassVar = Training(
        names=("look_back",),
        options=LookBackOptions,
        new=new_look_back,
        trains=lambda name, options: name.startswith(options.trained_along),
        learning_rates=lambda options: {"adapter": 1e-4, "unet": 1e-4},  # section 3: one for all
        data={"frame_stride": 4},
    )

    @classmethod
    def of(cls, module: LookBack, options: LookBackOptions | None = None) -> "LookBackMethod":
        return cls(module, Initialization((options or LookBackOptions()).initialization))

    def check(self, network: VideoUNet) -> None:
        check_sites(self.module.config, sites_of(network.config, replace(self.module.config, placement="layer")))

    def seams(self, call: NetworkCall) -> Seams:
        return Seams(after_block=self.updates(call.carried))

    def updates(self, carried: LookBackState | None = None) -> AfterBlock:
        """The update of a block's output; `carried` is kept along a video in pieces."""
        return self.module.after_block(carried, keep_first=self.initialization.inverts)


def begin_with(methods: Iterable[Method], initialization: Initialization) -> tuple[Method, ...]:
    """The methods with another initialization of look-back, where it is at work."""
    return tuple(
        replace(each, initialization=initialization) if isinstance(each, LookBackMethod) else each for each in methods
    )
