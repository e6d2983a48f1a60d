"""Image projection of DynamiCrafter (arXiv:2310.12190), section 3.2: a query transformer from image features to tokens.

Learned queries (16 for each of 16 frames, or 16 shared by all) attend to the tokens of an image encoder.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import AttentionFunction, scaled_dot_product_attention


@dataclass(frozen=True)
class ImageProjectionConfig:
    """Sizes of the query transformer; the defaults are those of every public DynamiCrafter checkpoint.

    `visual_tokens` says what the queries see: every token of the image encoder, or only its first, global one, which
    the paper compares with (Figure 2).
    """

    features: int = 1024
    depth: int = 4
    heads: int = 12
    head_dim: int = 64
    queries: int = 16
    frames: int | None = 16  # None, or 0 where a file cannot say that: the queries are shared by all frames
    image_features: int = 1280
    output_features: int = 1024
    visual_tokens: Literal["full", "global"] = "full"

    def __post_init__(self) -> None:
        if self.frames == 0:
            object.__setattr__(self, "frames", None)


class QueryAttention(nn.Module):
    """Queries attend to image tokens and to themselves."""

    def __init__(
        self,
        features: int,
        heads: int,
        head_dim: int,
        attention: AttentionFunction,
        operations: Any,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.heads, self.attention = heads, attention
        self.norm1 = operations.LayerNorm(features, **factory)
        self.norm2 = operations.LayerNorm(features, **factory)
        self.to_q = operations.Linear(features, heads * head_dim, bias=False, **factory)
        self.to_kv = operations.Linear(features, 2 * heads * head_dim, bias=False, **factory)
        self.to_out = operations.Linear(heads * head_dim, features, bias=False, **factory)

    def forward(self, image: Tensor, queries: Tensor) -> Tensor:
        image, queries = self.norm1(image), self.norm2(queries)
        k, v = self.to_kv(torch.cat([image, queries], dim=1)).chunk(2, dim=-1)
        return self.to_out(self.attention(self.to_q(queries), k, v, self.heads))


class ImageProjection(nn.Module):
    """Turn the tokens of an image encoder into image tokens for the dual cross-attention."""

    def __init__(
        self,
        config: ImageProjectionConfig,
        *,
        operations: Any = nn,
        attention: AttentionFunction = scaled_dot_product_attention,
        **factory: Any,
    ) -> None:
        features = config.features
        super().__init__()
        self.config = config
        self.latents = nn.Parameter(torch.empty(1, config.queries * (config.frames or 1), features, **factory))
        self.proj_in = operations.Linear(config.image_features, features, **factory)
        self.layers: Any = nn.ModuleList(
            nn.ModuleList(
                [
                    QueryAttention(features, config.heads, config.head_dim, attention, operations, **factory),
                    nn.Sequential(
                        operations.LayerNorm(features, **factory),
                        operations.Linear(features, 4 * features, bias=False, **factory),
                        nn.GELU(),
                        operations.Linear(4 * features, features, bias=False, **factory),
                    ),
                ]
            )
            for _ in range(config.depth)
        )
        self.proj_out = operations.Linear(features, config.output_features, **factory)
        self.norm_out = operations.LayerNorm(config.output_features, **factory)

    def forward(self, image_features: Tensor) -> Tensor:
        """Project `b n d` to image tokens: `b t k d` for every frame, or `b k d` shared by all."""
        if self.config.visual_tokens == "global":
            image_features = image_features[:, :1]
        image = self.proj_in(image_features)
        queries = self.latents.to(image).expand(image.shape[0], -1, -1)
        for attention, feed_forward in self.layers:
            queries = queries + attention(image, queries)
            queries = queries + feed_forward(queries)
        tokens = self.norm_out(self.proj_out(queries))
        if self.config.frames is None:
            return tokens
        return rearrange(tokens, "b (t k) d -> b t k d", t=self.config.frames)


def resample_image_tokens(tokens: Tensor, frames: int) -> Tensor:
    """Spread per-frame image tokens `b t k d` linearly over another number of frames.

    The reference instead gives every frame the tokens of all frames, which its authors report to degrade motion; for
    that behavior pass the tokens as shared ones, `b (t k) d`.
    """
    if tokens.shape[1] == frames:
        return tokens
    per_token = rearrange(tokens, "b t k d -> b (k d) t")
    resampled = F.interpolate(per_token.float(), size=frames, mode="linear", align_corners=True)
    return rearrange(resampled.to(tokens), "b (k d) t -> b t k d", k=tokens.shape[2])
