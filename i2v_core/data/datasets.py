"""The kinds of data that a configuration may name: each a frozen configuration and what opens it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..model.autoencoder import Autoencoder
from ..model.patch_autoencoder import PatchAutoencoder
from ..model.text_encoder import TextEncoder
from ..weights.companions.text import ClipTextEncoder
from . import CacheEncoders, DataConfig, FileClips, fill_cache, weights_hash
from . import open_data as open_files
from .clips import ClipData
from .figures import Figures, FiguresConfig
from .moving_crops import MovingCrops, MovingCropsConfig


@dataclass(frozen=True)
class DataKind:
    """The configuration behind `[data]`, and the data set that it describes."""

    config: type[Any]
    open: Callable[[Any], ClipData]


DATASETS: dict[str, DataKind] = {
    "moving_crops": DataKind(MovingCropsConfig, MovingCrops),
    "figures": DataKind(FiguresConfig, Figures),
    "files": DataKind(DataConfig, open_files),
}


def kind_of(config: Any) -> str:
    """The name in `DATASETS` of a configuration."""
    return next(name for name, kind in DATASETS.items() if type(config) is kind.config)


def open_data(config: Any) -> ClipData:
    """The data set that a configuration describes."""
    return DATASETS[kind_of(config)].open(config)


def keep_latents(
    data: ClipData,
    autoencoder: Autoencoder | PatchAutoencoder,
    device: str,
    text_encoder: TextEncoder | ClipTextEncoder | None = None,
) -> ClipData:
    """The same data with every frame and caption encoded once, if its configuration wants `cache_latents`.

    Args:
        text_encoder: a frozen one; None keeps no text.
        device: "cpu", or "auto" for this process's GPU if there is one.
    """
    if not isinstance(data, FileClips) or not data.config.cache_latents:
        return data
    part, parts = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    place = torch.device(local if device == "auto" and torch.cuda.is_available() else "cpu")
    autoencoder.to(place)
    encoders = CacheEncoders(autoencoder.encode, weights_hash(autoencoder), device=place)
    if text_encoder is not None:
        text_encoder.to(place)
        encoders = replace(encoders, texts=text_encoder.encode, texts_hash=weights_hash(text_encoder))
    return fill_cache(data, encoders, part=part, parts=parts)
