"""Pictures become the features that DynamiCrafter's image projection reads, whichever file the encoder comes from."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from i2v_core.video.clip_pixels import clip_pixels
from i2v_core.weights import CheckpointError
from i2v_core.weights.companions import load_image_encoder
from tests.core.weights.companions.small_towers import open_clip_model, picture_by_open_clip
from tests.core.weights.small import largest_difference, prefixed, seed
from tests.parity.seeded import seeded_normal

PICTURES = seeded_normal("pictures", (2, 3, 80, 60)).tanh()


@pytest.fixture(scope="module")
def theirs() -> Any:
    return open_clip_model()


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["visual.", "embedder.model.visual.", "open_clip_pytorch_model.bin"])
def test_open_clip_computes_the_same_tokens_before_its_projection(theirs: Any, prefix: str, tmp_path: Path) -> None:
    whole = prefix.endswith(".bin")
    torch.save(theirs.state_dict() if whole else prefixed(prefix, theirs.visual.state_dict()), tmp_path / "file.bin")
    ours = load_image_encoder(tmp_path / "file.bin")
    assert ours.config.image_size == 56
    features = ours.encode(PICTURES)
    assert features.shape == (2, 17, 64)
    assert largest_difference(features, picture_by_open_clip(theirs.visual, clip_pixels(PICTURES, 56))) < 1e-4


@torch.no_grad()
def test_transformers_computes_the_same(tmp_path: Path) -> None:
    config = CLIPVisionConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=16, image_size=28,
        patch_size=14, hidden_act="gelu", projection_dim=8,
    )  # fmt: skip
    theirs = seed(CLIPVisionModelWithProjection(config))
    theirs.save_pretrained(tmp_path)
    ours = load_image_encoder(tmp_path / "model.safetensors")
    expected = theirs(clip_pixels(PICTURES, 28)).last_hidden_state
    assert largest_difference(ours.encode(PICTURES), expected) < 1e-5


def test_what_is_no_image_encoder_is_refused(theirs: Any, tmp_path: Path) -> None:
    text = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("visual.")}
    save_file(text, tmp_path / "text.safetensors")
    with pytest.raises(CheckpointError, match=r"image encoder from 'text.safetensors': it looks like a text encoder"):
        load_image_encoder(tmp_path / "text.safetensors")
