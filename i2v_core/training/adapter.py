"""An adapter in training: what every method shares, and what each says of itself."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..model.video_unet import VideoUNet
from ..weights import Checkpoint, save_adapter
from .clips import ClipBatch, ClipSource
from .loop import TrainConfig
from .moving_crops import MovingCropsConfig

# By the base's own names: temporal convolutions lie in every residual block, temporal transformers third in a block.
TEMPORAL = re.compile(
    r"\.temopral_conv\.|^init_attn\.|"
    r"^(input_blocks\.\d+|middle_block|output_blocks\.\d+)\.2\.(norm|proj_in|proj_out|transformer_blocks)\."
)

Objective = Callable[[ClipBatch, torch.Generator], Tensor]


@dataclass(frozen=True)
class Method:
    """How the adapters of one kind are trained.

    Attributes:
        options: frozen dataclass of what the method lets a recipe choose.
        build: (base U-Net, adapter's configuration) -> the adapter's network, at its start.
        objective: (checkpoint, adapter's network, options) -> scalar loss of a batch and a generator of the step.
        trained_along: (name of a weight of the base, options) -> whether it is trained, and saved with the adapter.
        learning_rates: the paper's, by network; taken where a recipe names none.
    """

    options: type[Any]
    build: Callable[[VideoUNet, Any], nn.Module]
    objective: Callable[[Checkpoint, Any, Any], Objective]
    trained_along: Callable[[str, Any], bool]
    learning_rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterRecipe:
    """Which adapter is trained on which base, with which data and for how long.

    Attributes:
        method: key in `methods.METHODS`.
        base: path of the checkpoint; it holds an autoencoder and a text encoder of ours.
        train: `learning_rates` may name "adapter" and "unet".
        adapter: configuration of the adapter's network.
        options: of the method.
    """

    method: str
    base: str
    train: TrainConfig
    data: MovingCropsConfig = field(default_factory=MovingCropsConfig)
    adapter: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterTask:
    """An adapter beside its base, of which only the weights that the method names are trained along."""

    kind: str
    unet: VideoUNet
    adapter: nn.Module
    clips: ClipSource
    objective: Objective
    metadata: Mapping[str, str]

    @cached_property
    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"adapter": self.adapter, "unet": self.unet})

    def loss(self, step: int, batch_size: int) -> Tensor:
        return self.objective(self.clips.batch(step, batch_size), torch.Generator().manual_seed(step))

    def save(self, modules: nn.ModuleDict, path: Path, metadata: dict[str, str]) -> None:
        trained = {name for name, parameter in self.unet.named_parameters() if parameter.requires_grad}
        tuned = {name: tensor for name, tensor in modules["unet"].state_dict().items() if name in trained}
        header = {**self.metadata, **metadata}
        save_adapter(path, self.kind, modules["adapter"], unet=tuned, metadata=header, dtype=torch.float16)


def is_temporal(name: str) -> bool:
    """Whether a weight of a base with temporal layers belongs to one of them, by its name."""
    return TEMPORAL.search(name) is not None
