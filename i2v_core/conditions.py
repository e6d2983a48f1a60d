"""What a user gave, encoded: the one record that generation, training and the nodes pass to the denoiser."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """Encoded text and given image of `b` clips.

    Attributes:
        text: text tokens, `b n d`.
        pooled_text: one vector of the text, `b d`; only for models that have it.
        image_latent: latent of the given image, `b c 1 h w`, or of every frame, `b c t h w`; None without one.
        image_tokens: `b t k d` for every frame or `b k d` shared by all.
        fps: frames per second or frame stride, as the checkpoint means it, `b`.
    """

    text: Tensor
    pooled_text: Tensor | None = None
    image_latent: Tensor | None = None
    image_tokens: Tensor | None = None
    fps: Tensor | None = None
