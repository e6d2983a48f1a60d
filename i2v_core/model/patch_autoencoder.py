"""A small image autoencoder: principal components of pixel patches, and a residual network that cleans the decoding.

It needs minutes of no training where a convolutional autoencoder needs days, which is what a model that everyone can
retrain wants. Latents have about unit deviation.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .autoencoder import per_frame


@dataclass(frozen=True)
class PatchAutoencoderConfig:
    """Patch side in pixels, components kept, width of the cleaning network."""

    patch: int = 4
    latent_channels: int = 12
    refine_channels: int = 32

    @property
    def downscale(self) -> int:
        """Pixels per latent position along each axis."""
        return self.patch

    @property
    def scale_factor(self) -> float:
        """The fit already brings latents to about unit deviation."""
        return 1.0


class PatchAutoencoder(nn.Module):
    """Encode patches linearly; decode them linearly, then add what the cleaning network finds."""

    def __init__(self, config: PatchAutoencoderConfig, *, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        patch, width = config.patch, config.refine_channels
        self.encoder = operations.Conv2d(3, config.latent_channels, patch, stride=patch)
        self.decoder = operations.ConvTranspose2d(config.latent_channels, 3, patch, stride=patch)
        self.refine = nn.Sequential(
            operations.Conv2d(3, width, 3, padding=1),
            nn.SiLU(),
            operations.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            operations.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            operations.Conv2d(width, 3, 3, padding=1),
        )

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels `b 3 h w` in [-1, 1] to latents `b c h/f w/f`."""
        return self.encoder(pixels)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents `b c h w` to pixels `b 3 h*f w*f`, about [-1, 1]."""
        pixels = self.decoder(latents)
        return pixels + self.refine(pixels)

    def encode_clip(self, clip: Tensor) -> Tensor:
        """Encode `b 3 t h w` frame by frame to `b c t h/f w/f`."""
        return per_frame(self.encode, clip)

    def decode_clip(self, latents: Tensor) -> Tensor:
        """Decode `b c t h w` frame by frame to `b 3 t h*f w*f`."""
        return per_frame(self.decode, latents)


@torch.no_grad()
def fit_patches(autoencoder: PatchAutoencoder, pictures: Tensor) -> None:
    """Set encoder and decoder to the principal components of pictures `b 3 h w` in [-1, 1]; nothing is trained.

    Component k is divided by the root of its deviation: more than whitening leaves to the strong components, so that
    errors of the weak ones stay invisible; one global factor then makes the mean variance one.
    """
    config = autoencoder.config
    side, count = config.patch, config.latent_channels
    patches = rearrange(pictures, "b c (h p) (w q) -> (b h w) (c p q)", p=side, q=side).double()
    mean = patches.mean(0)
    _, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    basis = vectors.flip(1)[:, :count].T  # k (c p q), strongest first
    deviation = ((patches - mean) @ basis.T).std(0)
    scale = deviation.sqrt() * deviation.mean().sqrt()
    shape = (count, 3, side, side)
    encoder: Any = autoencoder.encoder
    decoder: Any = autoencoder.decoder
    encoder.weight.copy_((basis / scale[:, None]).reshape(shape))
    encoder.bias.copy_(-(basis @ mean) / scale)
    decoder.weight.copy_((basis * scale[:, None]).reshape(shape))
    # The transposed convolution has one bias per color; the mean patch is that to a good approximation.
    decoder.bias.copy_(mean.reshape(3, -1).mean(1))
    last: Any = autoencoder.refine[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
