"""Geometry of a clip as a value: batch, frames and size, in pixels or latent positions."""

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class VideoShape:
    """The sizes of a clip `b c t h w`.

    Raises ValueError for a size below one.
    """

    batch: int
    channels: int
    frames: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.as_tuple()) < 1:
            raise ValueError(f"every size of a clip must be at least 1, got {self}")

    @classmethod
    def of(cls, clip: Tensor) -> "VideoShape":
        """Read the shape of a clip `b c t h w`; raises ValueError for another number of axes."""
        if clip.ndim != 5:
            raise ValueError(f"a clip has five axes `b c t h w`, got shape {tuple(clip.shape)}")
        return cls(*clip.shape)

    def as_tuple(self) -> tuple[int, int, int, int, int]:
        """Sizes in the order `b c t h w`."""
        return self.batch, self.channels, self.frames, self.height, self.width

    def to_latent(self, channels: int, downscale: int) -> "VideoShape":
        """Shape of the latents of these pixels.

        Args:
            channels: of the latents.
            downscale: pixels per latent position along height and width.

        Raises ValueError if height or width is not a multiple of `downscale`, naming the nearest that are.
        """
        if self.height % downscale or self.width % downscale:
            height, width = (nearest_multiple(size, downscale) for size in (self.height, self.width))
            raise ValueError(
                f"height and width must be multiples of {downscale}, got {self.height} x {self.width}; "
                f"the nearest is {height} x {width}"
            )
        return replace(self, channels=channels, height=self.height // downscale, width=self.width // downscale)

    def to_pixels(self, downscale: int, channels: int = 3) -> "VideoShape":
        """Shape of the pixels of these latents."""
        return replace(self, channels=channels, height=self.height * downscale, width=self.width * downscale)


def nearest_multiple(size: int, factor: int) -> int:
    """Return the multiple of `factor` nearest to `size`, at least `factor`; halves round up."""
    return max(factor, (size + factor // 2) // factor * factor)
