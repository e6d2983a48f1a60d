"""Brightness, contrast and saturation of every frame against the given image (DreamVideo, Figure 3, shows them rise).

Pixels lie in [-1, 1] and the values in [0, 1].
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .checks import finite

LUMA = (0.2126, 0.7152, 0.0722)  # BT.709


def brightness(pictures: Tensor) -> Tensor:
    """Mean luma of pictures `... c h w`, `...`."""
    return _luma(pictures).flatten(-2).mean(-1)


def contrast(pictures: Tensor) -> Tensor:
    """Standard deviation of the luma of pictures `... c h w`, `...`."""
    return _luma(pictures).flatten(-2).std(-1, correction=0)


def saturation(pictures: Tensor) -> Tensor:
    """Mean saturation (of hue, saturation, value) of pictures `... c h w`, `...`."""
    rgb = _unit_range(pictures)
    value, spread = rgb.amax(-3), rgb.amax(-3) - rgb.amin(-3)
    return torch.where(value > 0, spread / value.clamp_min(1e-12), 0).flatten(-2).mean(-1)


def drift_curve(measure: Callable[[Tensor], Tensor], clip: Tensor, image: Tensor) -> Tensor:
    """Difference of every frame to the given image in one of the measures above, `... t`.

    Args:
        clip: `... c t h w`; image: `... c h w`.
    """
    return measure(clip.transpose(-3, -4)) - measure(image).unsqueeze(-1)


def _unit_range(pictures: Tensor) -> Tensor:
    return (finite(pictures, "The pixels") + 1) / 2


def _luma(pictures: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, dtype=torch.float32, device=pictures.device)
    return torch.einsum("...chw,c->...hw", _unit_range(pictures).float(), weights)
