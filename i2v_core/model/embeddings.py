"""Sinusoidal embeddings of the time step and of the frame rate (LVDM, `time_embed` and `fps_embedding`)."""

import math
from typing import Any

import torch
from torch import Tensor, nn


def sinusoidal_embedding(values: Tensor, features: int) -> Tensor:
    """Embed numbers as cosines and sines of geometric frequencies, cosines first.

    Args:
        values: time steps in [0, 1000) or frame rates, `b`.
        features: an even number of output features `d`.

    Returns:
        float32, `b d`.
    """
    half = features // 2
    exponents = torch.arange(half, device=values.device, dtype=torch.float32) / half
    angles = values.float()[:, None] * torch.exp(-math.log(10000.0) * exponents)[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def embedding_mlp(in_features: int, out_features: int, operations: Any, **factory: Any) -> nn.Sequential:
    """Two linear layers with a SiLU between them, named `0` and `2` as in LDM checkpoints."""
    return nn.Sequential(
        operations.Linear(in_features, out_features, **factory),
        nn.SiLU(),
        operations.Linear(out_features, out_features, **factory),
    )
