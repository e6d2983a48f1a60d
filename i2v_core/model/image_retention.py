"""Image retention (DreamVideo, arXiv:2312.03018, sections 4.1 and 4.2): a side branch that keeps the given image.

The branch is the base's own first half, started as its copy, which also sees the image's pixels; what it finds at every
level reaches the base's skips and middle through convolutions that start at zero (equation 3).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .attention import AttentionFunction, scaled_dot_product_attention
from .seams import Residuals, Seams
from .video_unet import VideoEncoder, VideoUNet, VideoUNetConfig


@dataclass(frozen=True)
class ImageRetentionConfig:
    """The base that the branch belongs to, and the widths of the stem, which halves the image between two of them."""

    unet: VideoUNetConfig = field(default_factory=VideoUNetConfig)
    stem_channels: tuple[int, ...] = (16, 32, 96, 256)

    @property
    def downscale(self) -> int:
        """Pixels of the image per latent position along each axis."""
        return 2 ** (len(self.stem_channels) - 1)


class ImageRetention(nn.Module):
    """The image retention branch: residuals for a base network that runs on the same inputs.

    Args:
        config: of the branch and its base.
        operations, attention, device, dtype: as of `VideoUNet`.
    """

    def __init__(
        self,
        config: ImageRetentionConfig,
        *,
        operations: Any = nn,
        attention: AttentionFunction = scaled_dot_product_attention,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.encoder = VideoEncoder(config.unet, operations=operations, attention=attention, **factory)
        self.stem = nn.Sequential(*_stem(config, operations, **factory))
        channels = self.encoder.skip_channels
        self.skips = nn.ModuleList(operations.Conv2d(width, width, 1, **factory) for width in channels)
        self.middle = operations.Conv2d(channels[-1], channels[-1], 1, **factory)

    @classmethod
    def beside(cls, base: VideoUNet, config: ImageRetentionConfig) -> "ImageRetention":
        """A branch that starts as a copy of its base and adds nothing to it yet, built with `torch.nn`."""
        branch = cls(replace(config, unet=base.config))
        weights = base.state_dict()
        branch.encoder.load_state_dict({name: weights[name] for name in branch.encoder.state_dict()})
        for convolution in (*branch.skips, branch.middle):
            nn.init.zeros_(convolution.weight)
            nn.init.zeros_(convolution.bias)
        return branch

    def hint(self, image: Tensor) -> Tensor:
        """Features of the given image that enter the branch, the same at every step.

        Args:
            image: pixels in [-1, 1], white where there is none, `b 3 H W`.

        Returns:
            `b c h w` at the size of the latents.
        """
        return self.stem(image)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        text: Tensor,
        hint: Tensor,
        *,
        image_tokens: Tensor | None = None,
        fps: Tensor | None = None,
        pooled_text: Tensor | None = None,
        strength: float = 1.0,
    ) -> Residuals:
        """Run the branch on the inputs of its base; arguments as of `VideoUNet.forward`.

        Args:
            hint: of every clip's image, `b c h w`.
            strength: factor of what is added.

        Raises:
            ValueError: the image was of another size than the clip.
        """
        if hint.shape[-2:] != x.shape[-2:]:
            height, width = (side * self.config.downscale for side in x.shape[-2:])
            raise ValueError(
                f"image retention needs the given image at the clip's size, {width} x {height} pixels; its hint is "
                f"{hint.shape[-1]} x {hint.shape[-2]} where the latents are {x.shape[-1]} x {x.shape[-2]}"
            )
        skips, middle, _ = self.encoder.encode(
            x, timesteps, text, image_tokens=image_tokens, fps=fps, pooled_text=pooled_text, seams=Seams(hint=hint)
        )
        added = [
            rearrange(convolution(h) * strength, "(b t) c h w -> b c t h w", t=x.shape[2])
            for convolution, h in zip((*self.skips, self.middle), (*skips, middle), strict=True)
        ]
        return Residuals(tuple(added[:-1]), added[-1])


def _stem(config: ImageRetentionConfig, operations: Any, **factory: Any) -> Iterator[nn.Module]:
    widths = config.stem_channels
    yield operations.Conv2d(3, widths[0], 3, padding=1, **factory)
    yield nn.SiLU()
    for narrow, wide in pairwise(widths):
        yield operations.Conv2d(narrow, narrow, 3, padding=1, **factory)
        yield nn.SiLU()
        yield operations.Conv2d(narrow, wide, 3, stride=2, padding=1, **factory)
        yield nn.SiLU()
    yield operations.Conv2d(widths[-1], config.unet.model_channels, 3, padding=1, **factory)
