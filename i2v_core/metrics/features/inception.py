"""Inception v3 of 2015 (1512.00567) with the quirks of the original FID: pooled features of pictures.

torchvision's network is a later one: some of its blocks pool differently, and the classifier had 1008 outputs. Names
and numbers are those of `weights-inception-2015-12-05-6726825d.pth`.
"""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ...files import StrPath
from ...video.frames import to_bytes, to_unit_range
from .files import load_weights, optional_module, required_path, state_dict

SIDE, BATCH = 299, 32


def build_inception() -> Any:
    """Inception v3 of 2015, random weights, ending in 2048 features `n d`."""
    models = optional_module("torchvision.models.inception")

    def without_border(pool: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x, kernel_size, stride, padding: pool(x, kernel_size, stride, padding, count_include_pad=False)

    class Pooled:
        """A block whose own average pool leaves the padding out, or takes the maximum instead."""

        pool: Callable[..., Tensor]

        def _forward(self, x: Tensor) -> list[Tensor]:
            branches = super()._forward(x)  # type: ignore[misc]
            block: Any = self
            branches[-1] = block.branch_pool(block.pool(x, kernel_size=3, stride=1, padding=1))
            return branches

    def block(base: type, pool: Callable[..., Tensor]) -> Callable[..., Any]:
        return type(base.__name__, (Pooled, base), {"pool": staticmethod(pool)})

    average = without_border(F.avg_pool2d)
    network = models.Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    a, c, e = (block(getattr(models, f"Inception{letter}"), average) for letter in "ACE")
    network.Mixed_5b, network.Mixed_5c, network.Mixed_5d = a(192, pool_features=32), a(256, 64), a(288, 64)
    for name, channels in {"6b": 128, "6c": 160, "6d": 160, "6e": 192}.items():
        setattr(network, f"Mixed_{name}", c(768, channels_7x7=channels))
    network.Mixed_7b, network.Mixed_7c = e(1280), block(models.InceptionE, F.max_pool2d)(2048)
    return network


def resize_like_tensorflow(pictures: Tensor, side: int = SIDE) -> Tensor:
    """Bilinear resize `n c h w` to a square as TensorFlow 1 did it: sample positions not centered on pixels."""
    height, width = pictures.shape[-2:]
    axes = [torch.arange(side, dtype=torch.float32) * (size / side) for size in (height, width)]
    y, x = torch.meshgrid(*axes, indexing="ij")
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1).to(pictures)
    grid = grid.expand(len(pictures), -1, -1, -1)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def load_inception(path: StrPath | None, *, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """Load Inception as a function from a clip `c t h w` in [-1, 1] to features of its frames, `t 2048`.

    Raises:
        FileNotFoundError: no file; the sentence names the usual ones.
        ValueError: torchvision is missing, or another kind of file.
    """
    found = required_path("inception", path)
    network = load_weights(build_inception(), state_dict(found), found, "the Inception v3 of FID").to(device)
    network.fc, network.dropout = torch.nn.Identity(), torch.nn.Identity()

    def features(clip: Tensor) -> Tensor:
        levels = to_bytes(to_unit_range(rearrange(clip, "c t h w -> t c h w"))).float().to(device)
        with torch.inference_mode():
            parts = levels.split(BATCH)
            return torch.cat([network((resize_like_tensorflow(part) - 128) / 128).cpu() for part in parts])

    return features
