"""Small CLIP models of the libraries that the public ones come from, with seeded weights."""

from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from tests.core.weights.small import seed

WORDS = 49408


def open_clip_model(layers: int = 3) -> Any:
    """ViT-H/14's two towers in small: text of width 64, pictures of width 64 with 16 heads and patches of 14."""
    vision = CLIPVisionCfg(layers=layers, width=64, head_width=4, patch_size=14, image_size=56)
    return seed(CLIP(32, vision, CLIPTextCfg(width=64, heads=1, layers=layers)))


def transformers_text_model(width: int = 64, layers: int = 2, activation: str = "quick_gelu") -> Any:
    """ViT-L/14's text tower in small."""
    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=width // 64,
        hidden_act=activation, vocab_size=WORDS, projection_dim=32, bos_token_id=49406, eos_token_id=49407,
    )  # fmt: skip
    return seed(CLIPTextModelWithProjection(config))


def text_by_open_clip(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Tokens as Stable Diffusion 2 takes them from OpenCLIP: the last layer but one, then the final norm."""
    x = model.token_embedding(tokens) + model.positional_embedding
    for block in model.transformer.resblocks[:-1]:
        x = block(x, attn_mask=model.attn_mask)
    return model.ln_final(x)


def picture_by_open_clip(visual: Any, prepared: torch.Tensor) -> torch.Tensor:
    """All tokens of the last layer of OpenCLIP's image tower, as DynamiCrafter takes them."""
    x = visual.conv1(prepared).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    return visual.transformer(visual.ln_pre(x))
