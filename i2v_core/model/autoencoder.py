"""Convolutional image autoencoder in the layout of LDM checkpoints (`first_stage_model`), so that hosts load it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import channels_last

MakeResidual = Callable[[int, int, Any], nn.Module]
# Of pictures together: a decoder of Stable Diffusion's width then needs about 1.2 GiB in single precision. A CPU takes
# one picture after the other: its caches hold no more, and fresh memory costs it a page fault for every 4 KiB.
PIXELS_AT_ONCE = 2**19


@dataclass(frozen=True)
class AutoencoderConfig:
    """Widths and depth; the defaults are those of Stable Diffusion's KL autoencoder."""

    channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4
    scale_factor: float = 0.18215  # brings latents to unit standard deviation

    @property
    def downscale(self) -> int:
        """Pixels per latent position along each axis."""
        return 2 ** (len(self.channel_mult) - 1)


def _norm(channels: int, operations: Any) -> Any:
    return operations.GroupNorm(32, channels, eps=1e-6)


def _conv(in_channels: int, out_channels: int, operations: Any) -> Any:
    return operations.Conv2d(in_channels, out_channels, 3, padding=1)


def _swish(h: Tensor) -> Tensor:
    """In place, where no backward pass needs what was there before."""
    return F.silu(h, inplace=not torch.is_grad_enabled())


class Residual(nn.Module):
    """Two convolutions, added to the input."""

    def __init__(self, in_channels: int, out_channels: int, operations: Any) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(in_channels, operations), _conv(in_channels, out_channels, operations)
        self.norm2, self.conv2 = _norm(out_channels, operations), _conv(out_channels, out_channels, operations)
        same = in_channels == out_channels
        self.nin_shortcut = nn.Identity() if same else operations.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(_swish(self.norm1(x)))
        h = self.norm2(h)  # in a line of its own, so that the convolution's output is given back
        h = self.conv2(_swish(h))
        return self.nin_shortcut(x) + h if torch.is_grad_enabled() else h.add_(self.nin_shortcut(x))


class PositionAttention(nn.Module):
    """Single-head attention over the positions of a picture."""

    def __init__(self, channels: int, operations: Any) -> None:
        super().__init__()
        self.norm = _norm(channels, operations)
        self.q, self.k, self.v, self.proj_out = (operations.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (rearrange(project(h), "b c h w -> b (h w) c") for project in (self.q, self.k, self.v))
        h = rearrange(F.scaled_dot_product_attention(q, k, v), "b (h w) c -> b c h w", h=x.shape[-2])
        return x + self.proj_out(h)


class PixelDownsample(nn.Module):
    """Convolution of stride two with the reference's padding on the right and at the bottom only."""

    def __init__(self, channels: int, operations: Any) -> None:
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class PixelUpsample(nn.Module):
    """Nearest-neighbor doubling, then a convolution."""

    def __init__(self, channels: int, operations: Any) -> None:
        super().__init__()
        self.conv = _conv(channels, channels, operations)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _middle(channels: int, residual: MakeResidual, operations: Any) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "block_1": residual(channels, channels, operations),
            "attn_1": PositionAttention(channels, operations),
            "block_2": residual(channels, channels, operations),
        }
    )


class Encoder(nn.Module):
    """Pixels to the mean and log-variance of the latent."""

    def __init__(self, config: AutoencoderConfig, operations: Any) -> None:
        super().__init__()
        width = channels = config.channels
        self.conv_in = _conv(3, width, operations)
        self.down: Any = nn.ModuleList()
        for level, mult in enumerate(config.channel_mult):
            blocks = nn.ModuleList()
            for _ in range(config.num_res_blocks):
                blocks.append(Residual(channels, width * mult, operations))
                channels = width * mult
            stage = nn.ModuleDict({"block": blocks})
            if level < len(config.channel_mult) - 1:
                stage["downsample"] = PixelDownsample(channels, operations)
            self.down.append(stage)
        self.mid = _middle(channels, Residual, operations)
        self.norm_out = _norm(channels, operations)
        self.conv_out = _conv(channels, 2 * config.latent_channels, operations)

    def forward(self, x: Tensor, features: list[Tensor] | None = None) -> Tensor:
        """Encode; a list that is given receives each level's features, fine to coarse, and then the first layer's."""
        h = self.conv_in(x)
        stem = None if features is None else h  # otherwise given back as soon as the first block has used it
        for stage in self.down:
            for block in stage["block"]:
                h = block(h)
            if features is not None:
                features.append(h)
            if "downsample" in stage:
                h = stage["downsample"](h)
        if features is not None and stem is not None:
            features.append(stem)
        for layer in self.mid.values():
            h = layer(h)
        return self.conv_out(_swish(self.norm_out(h)))


class Decoder(nn.Module):
    """Latent to pixels; `up` is numbered from fine to coarse, as in the checkpoints.

    Args:
        residual: makes a residual block from its channels in and out, and the layer classes.
    """

    def __init__(self, config: AutoencoderConfig, operations: Any, residual: MakeResidual = Residual) -> None:
        super().__init__()
        width, channels = config.channels, config.channels * config.channel_mult[-1]
        self.conv_in = _conv(config.latent_channels, channels, operations)
        self.mid = _middle(channels, residual, operations)
        stages: list[nn.Module] = []
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            blocks = nn.ModuleList()
            for _ in range(config.num_res_blocks + 1):
                blocks.append(residual(channels, width * mult, operations))
                channels = width * mult
            stage = nn.ModuleDict({"block": blocks})
            if level:
                stage["upsample"] = PixelUpsample(channels, operations)
            stages.insert(0, stage)
        self.up: Any = nn.ModuleList(stages)
        self.norm_out = _norm(channels, operations)
        self.conv_out = _conv(channels, 3, operations)

    def forward(self, z: Tensor) -> Tensor:
        h = self.conv_in(z)
        for layer in self.mid.values():
            h = layer(h)
        for stage in reversed(self.up):
            for block in stage["block"]:
                h = block(h)
            if "upsample" in stage:
                h = stage["upsample"](h)
        return self.conv_out(_swish(self.norm_out(h)))


class Autoencoder(nn.Module):
    """Encode pictures to scaled latents and back; the latent is the mean of the posterior, never a sample.

    Args:
        decoder: in place of the usual one.
        operations: layer classes, such as the host's.
    """

    def __init__(self, config: AutoencoderConfig, decoder: nn.Module | None = None, *, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config, operations), decoder or Decoder(config, operations)
        self.quant_conv = operations.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = operations.Conv2d(config.latent_channels, config.latent_channels, 1)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels `b 3 h w` in [-1, 1] to latents `b c h/f w/f` of unit scale."""
        parts = self._parts(pixels, pixels[0, 0].numel())
        means = [self.quant_conv(self.encoder(part)).chunk(2, dim=1)[0] for part in parts]
        return torch.cat(means) * self.config.scale_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Latents `b c h w` of unit scale to pixels `b 3 h*f w*f`, about [-1, 1]."""
        parts = self._parts(latents / self.config.scale_factor, latents[0, 0].numel() * self.config.downscale**2)
        return torch.cat([self.decoder(self.post_quant_conv(part)) for part in parts])

    def encode_clip(self, clip: Tensor) -> Tensor:
        """Encode `b 3 t h w` frame by frame to `b c t h/f w/f`."""
        return per_frame(self.encode, clip)

    def decode_clip(self, latents: Tensor) -> Tensor:
        """Decode `b c t h w` frame by frame to `b 3 t h*f w*f`."""
        return per_frame(self.decode, latents)

    def _parts(self, pictures: Tensor, pixels: int) -> tuple[Tensor, ...]:
        """Pictures `b c h w` of so many pixels, or their latents, as they go through together."""
        at_once = 1 if pictures.device.type == "cpu" else max(1, PIXELS_AT_ONCE // pixels)
        return channels_last(pictures).split(at_once)


def per_frame(function: Callable[[Tensor], Tensor], clip: Tensor) -> Tensor:
    """Apply a function of pictures `b c h w` to every frame of `b c t h w`."""
    pictures = function(rearrange(clip, "b c t h w -> (b t) c h w"))
    return rearrange(pictures, "(b t) c h w -> b c t h w", b=clip.shape[0])
