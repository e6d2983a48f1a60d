"""Residual, down- and up-sampling blocks of the video U-Net (LDM and LVDM names)."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Context, SpatialTransformer, TemporalTransformer
from .chunking import chunked


@cache
def over_frames(convolution: type[nn.Conv3d]) -> type[nn.Conv3d]:
    """The same layer for kernels `(n, 1, 1)`, computed in two dimensions: libraries are much faster at those."""

    class FrameConvolution(convolution):  # type: ignore[valid-type, misc]
        def _conv_forward(self, clip: Tensor, weight: Tensor, bias: Tensor | None, *_: Any, **__: Any) -> Tensor:
            # Hosts of 2026 also say how they would pad, which is nothing for layers that pad by themselves.
            out = F.conv2d(clip.flatten(3), weight.flatten(3), bias, padding=(self.padding[0], 0))
            return out.unflatten(3, clip.shape[3:])

    return FrameConvolution


def channels_last(h: Tensor) -> Tensor:
    """Features `n c h w` in this layout; with gradients as they are, since a backward pass in it has crashed."""
    return h if torch.is_grad_enabled() else h.contiguous(memory_format=torch.channels_last)


def to_frames(clip: Tensor) -> Tensor:
    """A clip `b c t h w` as frames `(b t) c h w`."""
    # With the channels last, frames, positions and tokens are views of one memory throughout the network.
    return channels_last(rearrange(clip, "b c t h w -> (b t) c h w"))


def use_channels_last(network: nn.Module) -> None:
    """Lay weights of convolutions out as features lie in inference; a backward pass through them has crashed."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
        elif isinstance(layer, nn.Conv3d) and layer.kernel_size[1:] == (1, 1):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last_3d)


class TemporalConvolution(nn.Module):
    """Four convolutions over the frames, added to their input; group norms see all frames together."""

    def __init__(self, channels: int, operations: Any, norm_groups: int = 32, **factory: Any) -> None:
        super().__init__()

        def convolution() -> nn.Module:
            layer = over_frames(operations.Conv3d)
            return layer(channels, channels, (3, 1, 1), padding=(1, 0, 0), **factory)

        def norm() -> nn.Module:
            return operations.GroupNorm(norm_groups, channels, **factory)

        # Index 2 of the later stages is the reference's dropout, inert here; it keeps the checkpoint's numbering.
        self.conv1 = nn.Sequential(norm(), nn.SiLU(inplace=True), convolution())
        self.conv2 = nn.Sequential(norm(), nn.SiLU(inplace=True), nn.Identity(), convolution())
        self.conv3 = nn.Sequential(norm(), nn.SiLU(inplace=True), nn.Identity(), convolution())
        self.conv4 = nn.Sequential(norm(), nn.SiLU(inplace=True), nn.Identity(), convolution())

    def forward(self, clip: Tensor) -> Tensor:
        """`b c t h w` to `b c t h w`."""
        return self.conv4(self.conv3(self.conv2(self.conv1(clip)))).add_(clip)


class ResBlock(nn.Module):
    """Two convolutions with the time embedding between them, then the temporal convolution if there is one."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_features: int,
        temporal_convolution: bool,
        operations: Any,
        norm_groups: int = 32,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            operations.GroupNorm(norm_groups, in_channels, **factory),
            nn.SiLU(inplace=True),
            operations.Conv2d(in_channels, out_channels, 3, padding=1, **factory),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), operations.Linear(embedding_features, out_channels, **factory))
        self.out_layers = nn.Sequential(
            operations.GroupNorm(norm_groups, out_channels, **factory),
            nn.SiLU(inplace=True),
            nn.Identity(),
            operations.Conv2d(out_channels, out_channels, 3, padding=1, **factory),
        )
        same = in_channels == out_channels
        self.skip_connection = nn.Identity() if same else operations.Conv2d(in_channels, out_channels, 1, **factory)
        # The misspelled name is the checkpoints' own.
        self.temopral_conv: TemporalConvolution | None = None
        if temporal_convolution:
            self.temopral_conv = TemporalConvolution(out_channels, operations, norm_groups, **factory)

    def forward(self, h: Tensor, embedding: Tensor, frames: int) -> Tensor:
        """`(b t) c h w` with an embedding `b e` of each clip, or `(b t) e` of each frame."""
        shift = repeat(self.emb_layers(embedding), "b c -> (b t) c 1 1", t=len(h) // len(embedding))
        h = chunked(self._convolve, h, shift)
        if self.temopral_conv is None:
            return h
        clip = self.temopral_conv(rearrange(h, "(b t) c h w -> b c t h w", t=frames))
        # Small convolutions do not keep the layout.
        return channels_last(rearrange(clip, "b c t h w -> (b t) c h w"))

    def _convolve(self, h: Tensor, shift: Tensor) -> Tensor:
        residual = self.out_layers(self.in_layers(h).add_(shift))
        return residual.add_(self.skip_connection(h))


class Downsample(nn.Module):
    """Convolution of stride two."""

    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.op = operations.Conv2d(channels, channels, 3, stride=2, padding=1, **factory)

    def forward(self, h: Tensor) -> Tensor:
        return self.op(h)


class Upsample(nn.Module):
    """Nearest-neighbor enlargement to the size of the skip that comes next, then a convolution."""

    def __init__(self, channels: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, padding=1, **factory)

    def forward(self, h: Tensor, size: tuple[int, int]) -> Tensor:
        return self.conv(F.interpolate(h, size=size, mode="nearest"))


@dataclass(frozen=True)
class LayerInputs:
    """Inputs of every layer besides the features `(b t) c h w`."""

    embedding: Tensor  # b e or (b t) e
    context: Context
    size: tuple[int, int] = (0, 0)  # where an upsampling goes


class Block(nn.ModuleList):
    """Layers in sequence; each is given the inputs of its kind."""

    def forward(self, h: Tensor, inputs: LayerInputs) -> Tensor:
        for layer in self:
            if isinstance(layer, ResBlock):
                h = layer(h, inputs.embedding, inputs.context.frames)
            elif isinstance(layer, SpatialTransformer):
                h = layer(h, inputs.context)
            elif isinstance(layer, TemporalTransformer):
                h = layer(h, inputs.context.frames, inputs.context.attention)
            elif isinstance(layer, Upsample):
                h = layer(h, inputs.size)
            else:
                h = layer(h)
        return h
