"""Attention over frames in the place of look-back: what the look-back paper compares with (appendix A.2)."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from i2v_core.methods.look_back import sites_of
from i2v_core.methods.method import Base
from i2v_core.model.look_back import LookBackConfig, LookBackState, site_name
from i2v_core.model.seams import AfterBlock


class SiteAttention(nn.Module):
    """Self-attention of every position over the frames, with learned codes of the frames; added to the clip."""

    def __init__(self, channels: int, frames: int, masked: bool, operations: Any = nn) -> None:
        super().__init__()
        self.masked = masked
        self.norm = operations.GroupNorm(32, channels)
        self.to_qkv = operations.Linear(channels, 3 * channels)
        self.to_out = operations.Linear(channels, channels)
        self.frame_codes = nn.Parameter(0.02 * torch.randn(frames, channels))
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, clip: Tensor) -> Tensor:
        """`b c t h w` to the same."""
        height = clip.shape[-2]
        tokens = rearrange(self.norm(clip), "b c t h w -> (b h w) t c") + self.frame_codes[: clip.shape[2]]
        q, k, v = self.to_qkv(tokens)[:, None].chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.masked)[:, 0]
        return clip + rearrange(self.to_out(attended), "(b h w) t c -> b c t h w", b=len(clip), h=height)


class FrameAttention(nn.Module):
    """Stands where a `LookBack` stands, at the same sites; `masked` lets a frame see itself and those before it."""

    def __init__(self, config: LookBackConfig, frames: int, masked: bool) -> None:
        super().__init__()
        self.config = config
        self.sites = nn.ModuleDict(
            {name: SiteAttention(channels, frames, masked) for name, channels in config.sites.items()}
        )

    @classmethod
    def beside(cls, base: Base, config: LookBackConfig, frames: int, masked: bool) -> "FrameAttention":
        """One for the sites of this U-Net."""
        sites = sites_of(base.unet.config, config)
        return cls(LookBackConfig(placement=config.placement, sites=sites), frames, masked)

    def after_block(self, state: LookBackState | None = None, *, keep_first: bool = False) -> AfterBlock:
        """As `LookBack.after_block`; attention carries nothing from piece to piece."""
        if state is not None or keep_first:
            raise ValueError("attention over frames is for whole clips that begin with the clean image")
        return lambda clip, address: self.sites[name](clip) if (name := site_name(address)) in self.sites else clip
