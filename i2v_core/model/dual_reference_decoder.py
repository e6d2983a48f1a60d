"""ToonCrafter's decoder (arXiv:2405.17933, "Detail Injection and Propagation"): detail of both images enters a clip.

The encoder's features of the first and the last image enter at every level: by cross-attention where positions are few,
and where they are many by addition to those two frames. Names are those of its checkpoints' `first_stage_model`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import scaled_dot_product_attention
from .autoencoder import Autoencoder, AutoencoderConfig, Decoder, Residual

FUSION_HEAD_DIM = 64


@dataclass(frozen=True)
class DualReferenceConfig(AutoencoderConfig):
    """Sizes of the autoencoder, and where references enter by attention; the defaults are ToonCrafter's.

    Attributes:
        fusion_levels: levels with cross-attention, 0 being the finest; the others add.
        fusion_heads: of the cross-attention, each of 64 features.
    """

    fusion_levels: tuple[int, ...] = (2, 3)
    fusion_heads: int = 8


class TemporalStack(nn.Module):
    """Two convolutions over three frames, added to the input; the second starts at zero."""

    def __init__(self, channels: int, operations: Any) -> None:
        super().__init__()
        # Normalized over time and space together, and with another epsilon than the spatial layers.
        norms = [operations.GroupNorm(32, channels) for _ in range(2)]
        first, last = _temporal(channels, operations), _zero(_temporal(channels, operations))
        self.in_layers = nn.Sequential(norms[0], nn.SiLU(), first)
        self.out_layers = nn.Sequential(norms[1], nn.SiLU(), nn.Identity(), last)

    def forward(self, clip: Tensor) -> Tensor:
        return clip + self.out_layers(self.in_layers(clip))


class VideoResidual(Residual):
    """A residual block of pictures, mixed with what a temporal one makes of its output."""

    def __init__(self, in_channels: int, out_channels: int, operations: Any) -> None:
        super().__init__(in_channels, out_channels, operations)
        self.time_stack = TemporalStack(out_channels, operations)
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, frames: int = 1) -> Tensor:
        """Features `(b t) c h w` of clips of this many frames."""
        clip = rearrange(super().forward(x), "(b t) c h w -> b c t h w", t=frames)
        mixed = torch.lerp(clip, self.time_stack(clip), torch.sigmoid(self.mix_factor))
        return rearrange(mixed, "b c t h w -> (b t) c h w")


class ReferenceAddition(nn.Module):
    """Add the references' features to the first and the last frame."""

    def __init__(self, channels: int, operations: Any) -> None:
        super().__init__()
        self.conv = _zero(operations.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, references: Tensor) -> Tensor:
        """Features `(b t) c h w` and references `b c 2 h w`."""
        clips = references.shape[0]
        added = self.conv(rearrange(references, "b c n h w -> (b n) c h w"))
        first, last = rearrange(added, "(b n) c h w -> n b c h w", b=clips)
        clip = rearrange(x, "(b t) c h w -> b t c h w", b=clips).clone()
        clip[:, 0] += first
        clip[:, -1] += last
        return rearrange(clip, "b t c h w -> (b t) c h w")


class ReferenceAttention(nn.Module):
    """Every position of every frame attends to all positions of both references."""

    def __init__(self, channels: int, heads: int, operations: Any) -> None:
        super().__init__()
        self.heads, width = heads, heads * FUSION_HEAD_DIM
        self.norm = operations.GroupNorm(32, channels, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (operations.Linear(channels, width, bias=False) for _ in range(3))
        self.to_out = nn.Sequential(_zero(operations.Linear(width, channels)))

    def forward(self, x: Tensor, references: Tensor) -> Tensor:
        """Features `(b t) c h w` and references `b c 2 h w`."""
        height, clips = x.shape[-2], references.shape[0]
        # All frames of a clip ask the same references, which so need not be repeated.
        q = self.to_q(rearrange(self.norm(x), "(b t) c h w -> b (t h w) c", b=clips))
        seen = rearrange(references, "b c n h w -> b (n h w) c")
        found = self.to_out(scaled_dot_product_attention(q, self.to_k(seen), self.to_v(seen), self.heads))
        return x + rearrange(found, "b (t h w) c -> (b t) c h w", t=len(x) // clips, h=height)


class DualReferenceDecoder(Decoder):
    """Latents of whole clips to pixels, with or without references."""

    def __init__(self, config: DualReferenceConfig, operations: Any) -> None:
        super().__init__(config, operations, VideoResidual)
        widths = [config.channels * mult for mult in config.channel_mult]
        self.attn_refinement = nn.ModuleList(
            ReferenceAttention(width, config.fusion_heads, operations)
            if level in config.fusion_levels
            else ReferenceAddition(width, operations)
            for level, width in enumerate(widths)
        )
        self.attn_refinement.append(ReferenceAddition(widths[0], operations))
        # A part of the convolution of pictures, because the checkpoints name it so.
        self.conv_out.time_mix_conv = _temporal(3, operations)

    def forward(self, z: Tensor, references: Sequence[Tensor] | None = None) -> Tensor:
        """Latents `b c t h w` to pixels `b 3 t h*f w*f`.

        Args:
            references: the encoder's features of both images at each level, fine to coarse, and those of its first
                layer, `b c 2 h w` each.
        """
        frames = z.shape[2]
        h = self.conv_in(rearrange(z, "b c t h w -> (b t) c h w"))
        h = self.mid["block_2"](self.mid["attn_1"](self.mid["block_1"](h, frames)), frames)
        for level, stage in reversed(list(enumerate(self.up))):
            for block in stage["block"]:
                h = block(h, frames)
            if references is not None:
                h = self.attn_refinement[level](h, references[level])
            if "upsample" in stage:
                h = stage["upsample"](h)
        h = F.silu(self.norm_out(h))
        if references is not None:
            h = self.attn_refinement[-1](h, references[-1])
        pixels = rearrange(self.conv_out(h), "(b t) c h w -> b c t h w", t=frames)
        return self.conv_out.time_mix_conv(pixels)


class DualReferenceAutoencoder(Autoencoder):
    """Stable Diffusion's encoder, and a decoder of clips that may look at the encoder's view of two images."""

    def __init__(self, config: DualReferenceConfig, *, operations: Any = nn) -> None:
        super().__init__(config, DualReferenceDecoder(config, operations), operations=operations)

    def reference_features(self, images: Tensor) -> list[Tensor]:
        """Encode the first and the last image, `b 3 2 h w` in [-1, 1], to the features that the decoder attends to."""
        features: list[Tensor] = []
        self.encoder(rearrange(images, "b c n h w -> (b n) c h w"), features)
        return [rearrange(level, "(b n) c h w -> b c n h w", n=2) for level in features]

    def decode(self, latents: Tensor) -> Tensor:
        """Latents `b c h w` to pixels `b 3 h*f w*f`, every picture a clip of its own."""
        return self.decode_clip(latents[:, :, None])[:, :, 0]

    def decode_clip(self, latents: Tensor, references: Sequence[Tensor] | None = None) -> Tensor:
        """Decode `b c t h w` of unit scale to `b 3 t h*f w*f`, about [-1, 1].

        `post_quant_conv` is in the checkpoints, but this decoder was trained without it.
        """
        return self.decoder(latents / self.config.scale_factor, references)


def decode_middle_twice(decode: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    """Decode `b c t h w`, and the middle two frames from a second pass without the second and the last but one.

    ToonCrafter's own inference does so. Clips below six frames, where the middle would be among those left out, are
    decoded once.
    """
    pixels, frames = decode(latents), latents.shape[2]
    if frames < 6:
        return pixels
    kept = [i for i in range(frames) if i not in (1, frames - 2)]
    again, middle = decode(latents[:, :, kept]), frames // 2
    return torch.cat([pixels[:, :, : middle - 1], again[:, :, middle - 2 : middle], pixels[:, :, middle + 1 :]], dim=2)


def _temporal(channels: int, operations: Any) -> Any:
    return operations.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))


def _zero(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
