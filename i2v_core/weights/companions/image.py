"""OpenCLIP's ViT-H/14 image encoder as DynamiCrafter uses it (arXiv:2310.12190, its `embedder`)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...files import StrPath
from ...video.clip_pixels import clip_pixels
from ..contents import NetworkPart, Tensors
from ..files import CheckpointError, read_tensors
from ..foreign import VISION_TOWER
from ..recognize import Shapes
from ..refusals import looks_like
from .key_maps import OPEN_CLIP_IMAGE, from_open_clip, is_open_clip, without
from .tower import build_tower, load_tower

HEADS = 16  # of every CLIP tower from ViT-L/14 on


@dataclass(frozen=True)
class ClipImageConfig:
    """Sizes of an image tower, the picture's and a patch's side in pixels."""

    width: int
    layers: int
    hidden_width: int
    image_size: int
    patch_size: int


class ClipImageEncoder(nn.Module):
    """Pictures to the features that an image projection reads.

    Args:
        network: of the transformers library, by `build_image_tower`.
    """

    def __init__(self, config: ClipImageConfig, network: nn.Module) -> None:
        super().__init__()
        self.config, self.network = config, network

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode pictures `b 3 h w` in [-1, 1] to features `b n d`: all tokens of the last layer, not yet normalized.

        They are squashed to the encoder's square, as DynamiCrafter's authors do.
        """
        weight = next(self.network.parameters())
        prepared = clip_pixels(pixels.to(weight.device), self.config.image_size).to(weight.dtype)
        return self.network(prepared).last_hidden_state


def recognize_image_tower(tensors: Mapping[str, Tensor]) -> tuple[ClipImageConfig, Tensors]:
    """Configuration and weights, by transformers' names, of an image tower in any of the forms in which it is shared.

    Raises CheckpointError if there is none, or if it lacks what tells its size.
    """
    tower = without(tensors, (VISION_TOWER, "visual.", "vision_model.", ""), "vision_model.")
    if tower is not None and is_open_clip(tower):
        tower = from_open_clip(tower, OPEN_CLIP_IMAGE)
    if tower is None or "embeddings.patch_embedding.weight" not in tower:
        kind = looks_like(tensors)
        raise CheckpointError(
            f"it looks like {kind or 'something else'}; expected a CLIP image encoder by transformers' or OpenCLIP's "
            "names, or a full checkpoint"
        )
    shapes = Shapes(tower)
    width, _, patch, _ = shapes.axes("embeddings.patch_embedding.weight", 4)
    patches = shapes["embeddings.position_embedding.weight"][0] - 1
    config = ClipImageConfig(
        width=width,
        layers=shapes.count(r"encoder\.layers\.(\d+)\."),
        hidden_width=shapes["encoder.layers.0.mlp.fc1.weight"][0],
        image_size=patch * math.isqrt(patches),
        patch_size=patch,
    )
    return config, tower


def build_image_tower(
    config: ClipImageConfig, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """The transformers library's image model of this configuration, with new weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    described = CLIPVisionConfig(
        hidden_size=config.width, intermediate_size=config.hidden_width, num_hidden_layers=config.layers,
        num_attention_heads=HEADS, image_size=config.image_size, patch_size=config.patch_size, hidden_act="gelu",
    )  # fmt: skip
    return build_tower(lambda: CLIPVisionModel(described), "vision_model", device, dtype)


IMAGE = NetworkPart("image_encoder", "", (ClipImageConfig,), build_image_tower)


def make_image_encoder(
    tensors: Mapping[str, Tensor], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ClipImageEncoder:
    """Build the image encoder that these tensors hold; raises CheckpointError if they hold none or not all of it."""
    config, tower = recognize_image_tower(tensors)
    return ClipImageEncoder(config, load_tower(IMAGE, config, tower, device, dtype)).eval()


def load_image_encoder(
    path: StrPath, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ClipImageEncoder:
    """Read an image encoder from a file of its own or from a full checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it holds no CLIP image encoder.
    """
    try:
        return make_image_encoder(read_tensors(path).tensors, device=device, dtype=dtype)
    except CheckpointError as error:
        raise CheckpointError(f"Cannot load the image encoder from '{Path(path).name}': {error}") from error
