"""The core's text encoders give what the host's CLIP gives for the same file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from i2v_core.weights.companions import load_text_encoder
from tests.core.weights.companions.small_towers import transformers_text_model
from tests.core.weights.small import largest_difference

LAYERS = 3
TEXTS = ["A red fox runs, its fur shining", "", "snow, ice and wind; café " * 3]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ViT-L/14", "ViT-H/14"])
def test_tokens_are_the_host_s(kind: str, host_module: Callable[[str], Any], tmp_path: Path) -> None:
    big = kind == "ViT-H/14"
    sd1_clip = host_module("comfy.sd1_clip")
    theirs = transformers_text_model(layers=LAYERS, activation="gelu" if big else "quick_gelu")
    tower = theirs.state_dict()
    pad, layer = (0, {"layer": "hidden", "layer_idx": -2}) if big else (49407, {"layer": "last"})
    sizes = {"num_hidden_layers": LAYERS, "hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1}
    config = sizes | {"hidden_act": "gelu" if big else "quick_gelu", "max_position_embeddings": 77, "vocab_size": 49408,
                      "eos_token_id": 49407}  # fmt: skip
    tokens = {"start": 49406, "end": 49407, "pad": pad}
    host = sd1_clip.SDClipModel(textmodel_json_config=config, special_tokens=tokens, dtype=torch.float32, **layer)
    host.load_sd({name: tensor for name, tensor in tower.items() if name.startswith("text_model.")})
    tokenizer = sd1_clip.SDTokenizer(pad_with_end=not big, embedding_size=64)

    path = tmp_path / "clip.safetensors"
    save_file(open_clip_names(tower) if big else tower, path)
    ours = load_text_encoder(path).encode(TEXTS)[0]
    for text, given in zip(TEXTS, ours, strict=True):
        expected = host.encode_token_weights(tokenizer.tokenize_with_weights(text))[0]
        assert largest_difference(given[None], expected) < 1e-5


def open_clip_names(tower: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A text tower of transformers under OpenCLIP's names, as a full checkpoint holds it."""
    renamed = {}
    for name, tensor in tower.items():
        new = name.removeprefix("text_model.").replace("encoder.layers.", "transformer.resblocks.")
        for theirs, ours in (
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("self_attn.out_proj", "attn.out_proj"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
            ("embeddings.token_embedding", "token_embedding"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("final_layer_norm", "ln_final"),
        ):
            new = new.replace(theirs, ours)
        renamed[new] = tensor
    for layer in range(LAYERS):
        for kind in ("weight", "bias"):
            at = f"transformer.resblocks.{layer}"
            parts = [renamed.pop(f"{at}.self_attn.{part}_proj.{kind}") for part in "qkv"]
            renamed[f"{at}.attn.in_proj_{kind}"] = torch.cat(parts)
    return renamed
