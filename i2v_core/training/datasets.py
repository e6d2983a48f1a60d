"""The kinds of data that a configuration may name: each a frozen configuration and what opens it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .clips import ClipData
from .moving_crops import MovingCrops, MovingCropsConfig


@dataclass(frozen=True)
class DataKind:
    """The configuration behind `[data]`, and the data set that it describes."""

    config: type[Any]
    open: Callable[[Any], ClipData]


DATASETS: dict[str, DataKind] = {
    "moving_crops": DataKind(MovingCropsConfig, MovingCrops),
}


def kind_of(config: Any) -> str:
    """The name in `DATASETS` of a configuration."""
    return next(name for name, kind in DATASETS.items() if type(config) is kind.config)


def open_data(config: Any) -> ClipData:
    """The data set that a configuration describes."""
    return DATASETS[kind_of(config)].open(config)
