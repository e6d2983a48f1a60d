"""Texts become what the bases were trained with, whichever file the text encoder comes from."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from i2v_core.weights import CheckpointError
from i2v_core.weights.companions import load_text_encoder
from i2v_core.weights.companions.text import recognize_text_tower, tokenize
from tests.core.weights.companions.small_towers import open_clip_model, text_by_open_clip, transformers_text_model
from tests.core.weights.small import largest_difference, prefixed

TEXTS = ["A red fox runs, its fur shining!", "", "snow " * 100]
END = 49407


@pytest.fixture(scope="module")
def theirs() -> Any:
    return open_clip_model()


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "cond_stage_model.model."])
def test_open_clip_computes_the_same_at_its_last_layer_but_one(theirs: Any, prefix: str, tmp_path: Path) -> None:
    torch.save(prefixed(prefix, theirs.state_dict()), tmp_path / "open_clip_pytorch_model.bin")
    ours = load_text_encoder(tmp_path / "open_clip_pytorch_model.bin")
    assert (ours.config.layers, ours.config.padding) == (2, "zero")
    tokens = open_clip.tokenizer.tokenize(TEXTS)
    assert torch.equal(tokenize(TEXTS, ours.config), tokens)
    features, pooled = ours.encode(TEXTS)
    assert pooled is None
    assert features.shape == (3, 77, 64)
    assert largest_difference(features, text_by_open_clip(theirs, tokens)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "cond_stage_model.transformer."])
def test_transformers_computes_the_same_at_its_last_layer(prefix: str, tmp_path: Path) -> None:
    theirs = transformers_text_model()
    file = tmp_path / "model.safetensors"
    theirs.save_pretrained(tmp_path)
    save_file(prefixed(prefix, load_file(file)), file)
    ours = load_text_encoder(file)
    assert (ours.config.layers, ours.config.padding, ours.config.activation) == (2, "end", "quick_gelu")
    tokens = tokenize(TEXTS, ours.config)
    assert tokens[1].tolist() == [49406] + [END] * 76
    assert tokens[2, -1] == END
    expected = theirs(tokens).last_hidden_state
    assert largest_difference(ours.encode(TEXTS)[0], expected) < 1e-5


@pytest.mark.parametrize("layers", [23, 24])
def test_the_big_tower_of_transformers_is_open_clip_s_with_or_without_its_last_layer(layers: int) -> None:
    names = {
        "embeddings.token_embedding.weight": (49408, 1024),
        "embeddings.position_embedding.weight": (77, 1024),
        **{f"encoder.layers.{i}.layer_norm1.weight": (1024,) for i in range(layers)},
    }
    tower = {f"text_model.{name}": torch.empty(shape, device="meta") for name, shape in names.items()}
    config, _ = recognize_text_tower(tower)
    assert (config.layers, config.padding, config.activation) == (23, "zero", "gelu")


def test_what_is_no_text_encoder_is_refused(theirs: Any, tmp_path: Path) -> None:
    image = prefixed("visual.", theirs.visual.state_dict())
    save_file(image, tmp_path / "image.safetensors")
    with pytest.raises(CheckpointError, match=r"text encoder from 'image.safetensors': it looks like an image encoder"):
        load_text_encoder(tmp_path / "image.safetensors")
    cut = {name: tensor for name, tensor in theirs.state_dict().items() if "resblocks.1.mlp" not in name}
    torch.save(cut, tmp_path / "cut.bin")
    with pytest.raises(CheckpointError, match=r"4 weights are missing: 'encoder.layers.1.mlp.fc1.bias'"):
        load_text_encoder(tmp_path / "cut.bin")
