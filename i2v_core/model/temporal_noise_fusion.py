"""Temporal noise fusion of TRIP (arXiv:2403.17005, section 3.4, figure 3): reference and residual, merged."""

from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from ..decoding import check_ranges
from .attention import Attention, AttentionFunction, scaled_dot_product_attention
from .embeddings import embedding_mlp, sinusoidal_embedding
from .visual_detail import added_image_channels

Fusion = Literal["learned", "linear", "none"]
Position = Literal["begin", "end", "channel"]


@dataclass(frozen=True)
class TemporalNoiseFusionConfig:
    """Configuration of TRIP: where the image joins the clip, and how reference and residual are fused.

    Attributes:
        channels: of the latents.
        fusion: `learned` is TRIP; `linear` (equation 9) and `none` are TRIP^W and TRIP^- of Table 6, without weights.
        position: where the image's clean latent joins the noised clip: before it, after it, or on the channels of
            every frame (Table 5: TRIP, TRIP_TE, TRIP_C).
        first_lambda, last_lambda: share of the reference in the first and in the last frame, for `linear`.
        patch: latent positions per token along each side.
        features, heads: width of a token, and its division; the paper gives neither.
        image_features: outputs of the base's first convolution, for the position `channel` on a base that has no
            channels for the image; None where it has.
        image_residual: the base was fine-tuned jointly to answer for the difference to the image (the residual of
            equation 5), and sees it noised, beside the image itself; a base without a picture then learns its words.

    Raises ValueError for sizes that do not go together.
    """

    channels: int = 4
    fusion: Fusion = "learned"
    position: Position = "begin"
    first_lambda: float = 1.0
    last_lambda: float = 0.0
    patch: int = 2
    features: int = 320
    heads: int = 5
    image_features: int | None = None
    image_residual: bool = False

    def __post_init__(self) -> None:
        if self.fusion not in get_args(Fusion) or self.position not in get_args(Position):
            raise ValueError(
                f"fusion must be one of {get_args(Fusion)} and position one of {get_args(Position)}, "
                f"got {self.fusion!r} and {self.position!r}"
            )
        if min(self.channels, self.patch, self.heads) < 1 or self.features % self.heads or self.features % 4:
            raise ValueError(
                f"features must be a multiple of 4 and of the heads, got {self.features} features, {self.heads} heads, "
                f"{self.channels} channels and patches of {self.patch}"
            )
        check_ranges(self, first_lambda=(0, 1), last_lambda=(0, 1))


PAPER = TemporalNoiseFusionConfig()
# Parameters: 1.45 M, 0.24 M and 0.25 M; the tests count them.
FUSION_PRESETS: dict[str, TemporalNoiseFusionConfig] = {
    "paper": PAPER,
    "compact": replace(PAPER, features=128, heads=2),
    "demo": replace(PAPER, channels=12, features=128, heads=4),
}


class ContextAttention(Attention):
    """Tokens `b n d` attend to a context `b m d`."""

    def __init__(self, features: int, heads: int, attention: AttentionFunction, **kw: Any) -> None:
        super().__init__(features, features, heads, features // heads, **kw)
        self.attention = attention

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.to_out(self.attention(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))


class AdaptiveLayerNorm(nn.Module):
    """Layer norm whose scale and shift come from the time step."""

    def __init__(self, features: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm = operations.LayerNorm(features, elementwise_affine=False, **factory)
        self.modulation = nn.Sequential(nn.SiLU(), operations.Linear(features, 2 * features, **factory))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Tokens `b n d` with an embedding `b d`."""
        scale, shift = self.modulation(embedding)[:, None].chunk(2, dim=-1)
        return self.norm(x) * (1 + scale) + shift


class TemporalNoiseFusion(nn.Module):
    """Merge residual and reference of every frame (equation 11); without weights unless the fusion is learned.

    The tokens of a frame carry sinusoidal codes of their row and column, of which the paper says nothing: they let a
    token find in the image what has moved.
    """

    def __init__(
        self,
        config: TemporalNoiseFusionConfig,
        *,
        operations: Any = nn,
        attention: AttentionFunction = scaled_dot_product_attention,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.config = config
        if config.image_features is not None:
            self.image_in = added_image_channels(config.channels, config.image_features, operations, **factory)
        if config.fusion != "learned":
            return
        features, values = config.features, config.channels * config.patch**2
        kw = {"operations": operations, **factory}
        self.time_embed = embedding_mlp(features, features, **kw)
        self.residual_in = operations.Linear(values, features, **factory)
        self.reference_in = operations.Linear(values, features, **factory)
        self.norm1 = AdaptiveLayerNorm(features, **kw)
        self.self_attention = ContextAttention(features, config.heads, attention, **kw)
        self.norm2 = AdaptiveLayerNorm(features, **kw)
        self.cross_attention = ContextAttention(features, config.heads, attention, **kw)
        self.proj_out = operations.Linear(features, values, **factory)

    def image_hint(self, image: Tensor) -> Tensor | None:
        """The contribution of an image on concatenated channels to the base's first convolution (TRIP_C of Table 5).

        Args:
            image: the given image's latent, `b c 1 h w`.

        Returns:
            `b d h w`, zero at initialization; None where the base has channels for the image, or sees it in time.
        """
        return None if self.config.image_features is None else self.image_in(image[:, :, 0])

    def forward(self, residual: Tensor, reference: Tensor, timesteps: Tensor) -> Tensor:
        """Return the fused prediction of a learned fusion.

        Args:
            residual: the network's prediction, `b c t h w`.
            reference: what it would be if every frame showed the given image, `b c t h w`.
            timesteps: in [0, 1000), `b`.

        Returns:
            `b c t h w`, equal to the residual at initialization.

        Raises ValueError for latents of another number of channels.
        """
        config, (height, width) = self.config, residual.shape[-2:]
        if residual.shape[1] != config.channels:
            raise ValueError(
                f"this fusion was made for latents of {config.channels} channels, got {residual.shape[1]}: use the "
                "model that it was trained with"
            )
        frames = residual.shape[2]
        embedding = self.time_embed(sinusoidal_embedding(timesteps, config.features).to(residual.dtype))
        embedding = repeat(embedding, "b d -> (b t) d", t=frames)
        patches = self._patches(residual)
        codes = _position_codes(patches.shape[1], patches.shape[2], config.features).to(patches)
        tokens, image = (
            rearrange(project(values) + codes, "b h w d -> b (h w) d")
            for project, values in ((self.residual_in, patches), (self.reference_in, self._patches(reference)))
        )
        normed = self.norm1(tokens, embedding)
        h = tokens + self.self_attention(normed, normed)
        h = h + self.cross_attention(self.norm2(h, embedding), torch.cat([image, tokens], dim=1))
        change = rearrange(
            self.proj_out(h),
            "(b t) (h w) (c p q) -> b c t (h p) (w q)",
            t=frames, h=patches.shape[1], p=config.patch, q=config.patch,
        )  # fmt: skip
        return residual + change[..., :height, :width]

    def _patches(self, clip: Tensor) -> Tensor:
        """`b c t h w` to values of patches `(b t) rows columns (c p q)`; the edge repeats where the patch is cut."""
        patch, frames = self.config.patch, rearrange(clip, "b c t h w -> (b t) c h w")
        height, width = frames.shape[-2:]
        frames = F.pad(frames, (0, -width % patch, 0, -height % patch), mode="replicate")
        return rearrange(frames, "b c (h p) (w q) -> b h w (c p q)", p=patch, q=patch)


def initialize_temporal_noise_fusion(module: TemporalNoiseFusion) -> None:
    """Prepare a new fusion for training: it starts as the residual path alone."""
    if module.config.image_features is not None:
        nn.init.zeros_(cast(nn.Conv2d, module.image_in).weight)
    if module.config.fusion == "learned":
        nn.init.zeros_(module.proj_out.weight)
        nn.init.zeros_(module.proj_out.bias)


def _position_codes(rows: int, columns: int, features: int) -> Tensor:
    """Codes of row and column, half of the features each, `rows columns d`."""
    vertical, horizontal = (sinusoidal_embedding(torch.arange(n), features // 2) for n in (rows, columns))
    return torch.cat([repeat(vertical, "h d -> h w d", w=columns), repeat(horizontal, "w d -> h w d", h=rows)], dim=-1)
