"""CLIP's text encoders as the bases were trained with them: ViT-L/14 of Stable Diffusion 1.5, OpenCLIP's ViT-H/14.

ViT-H/14 (Stable Diffusion 2, VideoCrafter, DynamiCrafter, ModelScope) is read at its last layer but one, and texts are
filled up with token 0; ViT-L/14 at its last one, filled up with the end token. Both end in the final layer norm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...files import StrPath
from ..contents import NetworkPart, Tensors
from ..files import CheckpointError, read_tensors
from ..foreign import TEXT_TOWERS
from ..recognize import Shapes
from ..refusals import looks_like
from .key_maps import OPEN_CLIP_TEXT, from_open_clip, is_open_clip, without
from .tower import build_tower, load_tower

HEAD_DIM = 64
OPEN_CLIP_WIDTH, OPEN_CLIP_LAYERS = 1024, 23  # of ViT-H/14, without the last layer, which is never read


@dataclass(frozen=True)
class ClipTextConfig:
    """Sizes, and what the names and shapes of a tower only imply.

    Attributes:
        layers: those that are run.
        padding: what follows the end token: that token again, or 0.
    """

    width: int
    layers: int
    vocab_size: int
    max_length: int
    activation: Literal["quick_gelu", "gelu"]
    padding: Literal["end", "zero"]


class ClipTextEncoder(nn.Module):
    """Texts to the tokens that a base attends to.

    Args:
        network: of the transformers library, by `build_text_tower`.
    """

    def __init__(self, config: ClipTextConfig, network: nn.Module) -> None:
        super().__init__()
        self.config, self.network = config, network

    def encode(self, texts: list[str]) -> tuple[Tensor, None]:
        """Encode texts to `b n d`; None stands for the pooled vector, which these bases do not use.

        Raises ImportError if the package with the vocabulary is not installed.
        """
        device = next(self.network.parameters()).device
        return self.network(tokenize(texts, self.config).to(device)).last_hidden_state, None


def tokenize(texts: list[str], config: ClipTextConfig) -> Tensor:
    """Token ids of each text between start and end, cut or filled up to `max_length`, `b n`."""
    tokenizer = _tokenizer()
    tokens = tokenizer(texts, config.max_length)
    if config.padding == "zero":
        return tokens
    ended = (tokens == tokenizer.eot_token_id).cumsum(dim=1) > 0
    return tokens.masked_fill(ended, tokenizer.eot_token_id)


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise ImportError(
            "Texts for CLIP need the package that carries its vocabulary: run `pip install open_clip_torch`."
        ) from error
    return SimpleTokenizer()


def recognize_text_tower(tensors: Mapping[str, Tensor]) -> tuple[ClipTextConfig, Tensors]:
    """Configuration and weights, by transformers' names, of a text tower in any of the forms in which it is shared.

    Raises CheckpointError if there is none, or if it lacks what tells its size.
    """
    tower = without(tensors, (*TEXT_TOWERS, "transformer.", ""), "text_model.")
    if tower is None or (is_open_clip(tower) and "token_embedding.weight" not in tower):
        kind = looks_like(tensors)
        raise CheckpointError(
            f"it looks like {kind or 'something else'}; expected a CLIP text encoder by transformers' or OpenCLIP's "
            "names, or a full checkpoint"
        )
    open_clip = is_open_clip(tower)
    if open_clip:
        tower = from_open_clip(tower, OPEN_CLIP_TEXT)
    shapes = Shapes(tower)
    vocabulary, width = shapes.axes("embeddings.token_embedding.weight", 2)
    layers = shapes.count(r"encoder\.layers\.(\d+)\.")
    config = ClipTextConfig(
        width=width,
        # Shared under transformers' names with the unread layer or without it.
        layers=layers - 1 if open_clip else min(layers, OPEN_CLIP_LAYERS) if width == OPEN_CLIP_WIDTH else layers,
        vocab_size=vocabulary,
        max_length=shapes["embeddings.position_embedding.weight"][0],
        activation="gelu" if open_clip or width == OPEN_CLIP_WIDTH else "quick_gelu",
        padding="zero" if open_clip or width == OPEN_CLIP_WIDTH else "end",
    )
    return config, tower


def build_text_tower(
    config: ClipTextConfig, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """The transformers library's text model of this configuration, with new weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    heads = max(1, config.width // HEAD_DIM)
    described = CLIPTextConfig(
        vocab_size=config.vocab_size, hidden_size=config.width, intermediate_size=4 * config.width,
        num_hidden_layers=config.layers, num_attention_heads=heads, max_position_embeddings=config.max_length,
        hidden_act=config.activation,
    )  # fmt: skip
    return build_tower(lambda: CLIPTextModel(described), "text_model", device, dtype)


TEXT = NetworkPart("text_encoder", "", (ClipTextConfig,), build_text_tower)


def make_text_encoder(
    tensors: Mapping[str, Tensor], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ClipTextEncoder:
    """Build the text encoder that these tensors hold; raises CheckpointError if they hold none or not all of it."""
    config, tower = recognize_text_tower(tensors)
    return ClipTextEncoder(config, load_tower(TEXT, config, tower, device, dtype)).eval()


def load_text_encoder(
    path: StrPath, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ClipTextEncoder:
    """Read a text encoder from a file of its own or from a full checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it holds no CLIP text encoder.
    """
    try:
        return make_text_encoder(read_tensors(path).tensors, device=device, dtype=dtype)
    except CheckpointError as error:
        raise CheckpointError(f"Cannot load the text encoder from '{Path(path).name}': {error}") from error
