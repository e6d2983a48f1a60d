"""A LoRA trains little, begins at nothing, and does the same in every form in which it is kept."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from i2v_core.model.video_unet import VideoUNet
from i2v_core.training.config import LoraConfig
from i2v_core.training.lora import (
    add_lora,
    apply_lora,
    attention_layers,
    lora_tensors,
    merged_weights,
    save_lora,
)
from tests.core.weights.small import SMALL, SMALL_IMAGE_MODEL, largest_difference, seed
from tests.parity.seeded import seeded_normal

CONFIG = LoraConfig(rank=4, alpha=8.0)
X, TIMES, TEXT = seeded_normal("x", (1, 4, 2, 8, 8)), torch.tensor([300.0]), seeded_normal("text", (1, 5, 64))


def answer(unet: VideoUNet) -> torch.Tensor:
    return unet(X, TIMES, TEXT)


def trained(steps: int = 2) -> VideoUNet:
    """A seeded base with a LoRA that has learned a little."""
    unet = seed(VideoUNet(SMALL))
    torch.manual_seed(0)
    add_lora(unet, CONFIG)
    optimizer = torch.optim.AdamW([p for p in unet.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        answer(unet).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return unet


def test_a_new_lora_changes_nothing_and_alone_is_trained() -> None:
    unet = seed(VideoUNet(SMALL))
    before = answer(unet)
    layers = attention_layers(unet)
    add_lora(unet, LoraConfig(rank=4))
    assert largest_difference(answer(unet), before) < 1e-5
    learning = [name for name, parameter in unet.named_parameters() if parameter.requires_grad]
    assert len(learning) == 2 * len(layers)
    assert all(".lora_A." in name or ".lora_B." in name for name in learning)


def test_only_the_layers_asked_for_are_adapted() -> None:
    unet = VideoUNet(SMALL)
    spatial, temporal = attention_layers(unet, "spatial"), attention_layers(unet, "temporal")
    assert {*spatial, *temporal} == set(attention_layers(unet))
    assert "input_blocks.1.1.transformer_blocks.0.attn2.to_out.0" in spatial
    assert "input_blocks.1.2.transformer_blocks.0.attn1.to_q" in temporal
    add_lora(unet, LoraConfig(layers="temporal"))
    assert len(merged_weights(unet.state_dict(), LoraConfig())) == len(temporal)
    with pytest.raises(ValueError, match="no attention layers of the kind 'temporal'"):
        add_lora(VideoUNet(SMALL_IMAGE_MODEL), LoraConfig(layers="temporal"))
    with pytest.raises(ValueError, match="rank of at least 1, got 0"):
        LoraConfig(rank=0)


def test_learning_moves_the_answer_and_leaves_the_base_alone() -> None:
    unet, base = trained(), seed(VideoUNet(SMALL))
    with torch.no_grad():
        assert largest_difference(answer(unet), answer(base)) > 1e-3
    state = {name.replace(".base_layer", ""): tensor for name, tensor in unet.state_dict().items()}
    assert all(torch.equal(state[name], tensor) for name, tensor in base.state_dict().items())


@torch.no_grad()
def test_whole_weights_and_the_file_do_what_the_trained_network_does(tmp_path: Path) -> None:
    with torch.enable_grad():
        unet = trained()
    expected, whole, added = answer(unet), seed(VideoUNet(SMALL)), seed(VideoUNet(SMALL))
    whole.load_state_dict(whole.state_dict() | merged_weights(unet.state_dict(), CONFIG))
    assert largest_difference(answer(whole), expected) < 1e-5
    save_lora(tmp_path / "lora.safetensors", unet.state_dict(), CONFIG, dtype=torch.float32)
    apply_lora(added, load_file(tmp_path / "lora.safetensors"))
    assert largest_difference(answer(added), expected) < 1e-5
    apply_lora(added, lora_tensors(unet.state_dict(), CONFIG), strength=-1.0)
    assert largest_difference(answer(added), answer(seed(VideoUNet(SMALL)))) < 1e-5


def test_a_lora_of_another_base_is_refused() -> None:
    with pytest.raises(ValueError, match="layers of the LoRA are not in this network, first 'lora_unet_init_attn"):
        apply_lora(VideoUNet(SMALL_IMAGE_MODEL), lora_tensors(trained(0).state_dict(), CONFIG))
