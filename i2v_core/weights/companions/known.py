"""The files that belong to a model, by the names under which they are shared."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Companion:
    """One kind of file beside a base.

    Attributes:
        what: its name in a sentence.
        option: of the command line; the library's argument is the same with underscores.
        folder: where ComfyUI keeps it, below `models`.
        output: of Load I2V Checkpoint, which brings it with a full file.
        known: the file that is meant, by the width of its tokens or the number of its channels.
    """

    what: str
    option: str
    folder: str
    output: str
    known: Mapping[int, str]

    @property
    def argument(self) -> str:
        """Name of the library's keyword argument."""
        return self.option.replace("-", "_")

    def missing(self, size: int) -> str:
        """The sentence for a base that needs this companion and has none."""
        meant = self.known.get(size)
        return (
            f"this file holds no {self.what}: give one with --{self.option} (in Python: {self.argument}=)"
            + (f", {meant}, in ComfyUI's models/{self.folder}" if meant else ", or use the model's full checkpoint")
        )  # fmt: skip

    def on_canvas(self, size: int) -> str:
        """The output to connect to a base that needs this companion."""
        meant, own = self.known.get(size), f"{self.output} of the model's own file"
        return f"{meant}, or {own}" if meant else own

    def mismatch(self, got: int, needed: int, unit: str) -> str:
        """The sentence for a companion of another model."""
        meant = self.known.get(needed)
        return (
            f"this {self.what} has {got} {unit} and the model needs {needed}: it belongs to another model"
            + (f"; take {meant}" if meant else "")
        )  # fmt: skip


AUTOENCODER = Companion(
    "autoencoder",
    "vae",
    "vae",
    "vae",
    {4: "Stable Diffusion 1.5's or 2.1's VAE, such as vae-ft-mse-840000-ema-pruned.safetensors"},
)
TEXT_ENCODER = Companion(
    "text encoder",
    "text-encoder",
    "text_encoders",
    "clip",
    {
        768: "CLIP ViT-L/14, such as clip_l.safetensors",
        1024: "OpenCLIP ViT-H/14, such as open_clip_pytorch_model.bin or Stable Diffusion 2.1's text encoder",
    },
)
IMAGE_ENCODER = Companion(
    "image encoder",
    "image-encoder",
    "clip_vision",
    "clip_vision",
    {1280: "OpenCLIP ViT-H/14, such as CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"},
)
# Not a file of its own.
IMAGE_PROJECTION = (
    "image_projection from Load I2V Checkpoint with a full or pruned file of this very model (a file of the U-Net "
    "alone may have none)"
)
