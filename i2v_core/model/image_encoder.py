"""A small image encoder in the place of CLIP's: our own small models see the given image through it.

A vision transformer (arXiv:2010.11929) whose tokens are taken as DynamiCrafter takes CLIP's: all of the last layer,
the global one first, before any final norm.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import AttentionFunction, SelfAttention, scaled_dot_product_attention


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Sizes of the vision transformer; every picture is squashed to `size` x `size` pixels."""

    size: int = 64
    patch: int = 8
    features: int = 96
    layers: int = 3
    heads: int = 3

    @property
    def tokens(self) -> int:
        return 1 + (self.size // self.patch) ** 2


class EncoderLayer(nn.Module):
    """Self-attention and a GELU feed-forward, each after a layer norm."""

    def __init__(
        self, features: int, heads: int, attention: AttentionFunction, operations: Any, **factory: Any
    ) -> None:
        super().__init__()
        kw = {"operations": operations, **factory}
        self.norm1 = operations.LayerNorm(features, **factory)
        self.attn = SelfAttention(features, heads, features // heads, attention, **kw)
        self.norm2 = operations.LayerNorm(features, **factory)
        self.fc1 = operations.Linear(features, 4 * features, **factory)
        self.fc2 = operations.Linear(4 * features, features, **factory)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ImageEncoder(nn.Module):
    """Pictures to one global token and one for each patch."""

    def __init__(
        self,
        config: ImageEncoderConfig,
        *,
        operations: Any = nn,
        attention: AttentionFunction = scaled_dot_product_attention,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = operations.Linear(3 * config.patch**2, config.features, **factory)
        # Its first row stands for the global token, which no patch belongs to.
        self.position_embedding = operations.Embedding(config.tokens, config.features, **factory)
        self.layers = nn.ModuleList(
            EncoderLayer(config.features, config.heads, attention, operations, **factory) for _ in range(config.layers)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pixels in [-1, 1], `b 3 H W`, to features `b n d`, the global one first."""
        size, patch = self.config.size, self.config.patch
        if pixels.shape[-2:] != (size, size):
            pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
        patches = rearrange(pixels, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)
        x = F.pad(self.patch_embedding(patches), (0, 0, 1, 0))
        x = x + self.position_embedding(torch.arange(x.shape[1], device=x.device)).to(x)
        for layer in self.layers:
            x = layer(x)
        return x

    def encode(self, pixels: Tensor) -> Tensor:
        """The same by the name that image encoders of every kind have."""
        return self(pixels)


def initialize_image_encoder(encoder: ImageEncoder) -> None:
    """Prepare a new encoder for training: positions start small."""
    nn.init.normal_(encoder.position_embedding.weight, std=0.02)
