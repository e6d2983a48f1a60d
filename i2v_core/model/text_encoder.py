"""A small causal text transformer with CLIP's structure and parameter names, and the tokenizer that feeds it.

It is the text side of our own small models; big checkpoints bring their own CLIP.
"""

import re
import zlib
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

START, END = 0, 1  # token ids; padding repeats END, as in CLIP


@dataclass(frozen=True)
class TextEncoderConfig:
    """Sizes; words are hashed into `vocab_size - 2` buckets, so there is no vocabulary file to lose."""

    vocab_size: int = 4096
    features: int = 64
    layers: int = 2
    heads: int = 2
    max_length: int = 32


def word_ids(text: str, vocab_size: int) -> list[int]:
    """Token id of every word of a text, without start and end: lower case, letters and digits only."""
    return [2 + zlib.crc32(word.encode()) % (vocab_size - 2) for word in re.findall(r"[a-z0-9]+", text.lower())]


def tokenize(texts: list[str], config: TextEncoderConfig) -> Tensor:
    """Token ids of each text between start and end, cut or padded to `max_length`, `b n`."""
    rows = []
    for text in texts:
        words = word_ids(text, config.vocab_size)[: config.max_length - 2]
        rows.append([START, *words] + [END] * (config.max_length - 1 - len(words)))
    return torch.tensor(rows)


class TextAttention(nn.Module):
    """Causal self-attention with CLIP's names."""

    def __init__(self, features: int, heads: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = operations.Linear(features, features, **factory)
        self.k_proj = operations.Linear(features, features, **factory)
        self.v_proj = operations.Linear(features, features, **factory)
        self.out_proj = operations.Linear(features, features, **factory)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            rearrange(project(x), "b n (h d) -> b h n d", h=self.heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(rearrange(out, "b h n d -> b n (h d)"))


class TextLayer(nn.Module):
    """Attention and a GELU feed-forward, each after a layer norm."""

    def __init__(self, features: int, heads: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.layer_norm1 = operations.LayerNorm(features, **factory)
        self.self_attn = TextAttention(features, heads, operations, **factory)
        self.layer_norm2 = operations.LayerNorm(features, **factory)
        self.mlp = nn.ModuleDict(
            {
                "fc1": operations.Linear(features, 4 * features, **factory),
                "fc2": operations.Linear(4 * features, features, **factory),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.layer_norm2(x))))


class TextEncoder(nn.Module):
    """Text tokens to features of every token and one pooled vector."""

    def __init__(self, config: TextEncoderConfig, *, operations: Any = nn, **factory: Any) -> None:
        super().__init__()
        self.config = config
        features = config.features
        layers = [TextLayer(features, config.heads, operations, **factory) for _ in range(config.layers)]
        self.text_model: Any = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(
                    {
                        "token_embedding": operations.Embedding(config.vocab_size, features, **factory),
                        "position_embedding": operations.Embedding(config.max_length, features, **factory),
                    }
                ),
                "encoder": nn.ModuleDict({"layers": nn.ModuleList(layers)}),
                "final_layer_norm": operations.LayerNorm(features, **factory),
            }
        )

    @property
    def token_embedding(self) -> nn.Embedding:
        return self.text_model["embeddings"]["token_embedding"]

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode token ids `b n` to features `b n d` and the pooled vector `b d`, the features at the first END."""
        ends = (tokens == END).int().argmax(dim=-1)
        features = self.encode_embeddings(self.token_embedding(tokens))
        return features, features[torch.arange(len(ends), device=ends.device), ends]

    def encode_embeddings(self, x: Tensor) -> Tensor:
        """Token embeddings `b n d`, without positions, to features `b n d`."""
        positions = torch.arange(x.shape[1], device=x.device)
        x = x + self.text_model["embeddings"]["position_embedding"](positions)
        for layer in self.text_model["encoder"]["layers"]:
            x = layer(x)
        return self.text_model["final_layer_norm"](x)

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Encode texts to features `b n d` and pooled vectors `b d`."""
        return self(tokenize(texts, self.config).to(next(self.parameters()).device))


def initialize_text_encoder(encoder: TextEncoder) -> None:
    """CLIP's initialization: small embeddings, so that words never seen in training say little."""
    for embedding in encoder.text_model["embeddings"].values():
        nn.init.normal_(embedding.weight, std=0.02)
