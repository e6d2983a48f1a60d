"""The networks that go with a real base, read from the files that users already have, without any download."""

from .autoencoder import load_autoencoder
from .image import ClipImageConfig, ClipImageEncoder, load_image_encoder
from .known import AUTOENCODER, IMAGE_ENCODER, TEXT_ENCODER, Companion
from .text import ClipTextConfig, ClipTextEncoder, load_text_encoder

__all__ = [
    "AUTOENCODER",
    "IMAGE_ENCODER",
    "TEXT_ENCODER",
    "ClipImageConfig",
    "ClipImageEncoder",
    "ClipTextConfig",
    "ClipTextEncoder",
    "Companion",
    "load_autoencoder",
    "load_image_encoder",
    "load_text_encoder",
]
