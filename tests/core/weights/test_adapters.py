"""An adapter comes back exactly, with the base's weights that it trained along, and only on its own base."""

from pathlib import Path

import pytest
import torch

from i2v_core import CheckpointError
from i2v_core.model.image_encoder import ImageEncoderConfig
from i2v_core.model.image_injection import ImageAdapter, ImageAdapterConfig, ImageInjectionConfig, VisualDetailConfig
from i2v_core.model.image_projection import ImageProjectionConfig
from i2v_core.model.video_unet import VideoUNet
from i2v_core.weights import load_adapter, read_adapter, save_adapter
from i2v_core.weights.adapters import mean_weights, replace_weights, trained_betas, trained_options
from tests.core.weights.small import SMALL, seed
from tests.core.weights.test_checkpoint import whole

CONFIG = ImageAdapterConfig(
    ImageProjectionConfig(features=32, depth=1, heads=1, image_features=48),
    ImageInjectionConfig({"middle_block.1.transformer_blocks.0.attn2": 32}, 16, "learned", VisualDetailConfig(4, 8)),
    ImageEncoderConfig(size=16, features=48, layers=1, heads=1),
)
TUNED = "input_blocks.0.0.bias"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "adapter.safetensors"


def test_network_configuration_and_tuned_weights_come_back_exactly(path: Path) -> None:
    module, tuned = seed(ImageAdapter(CONFIG)), {TUNED: torch.randn(32)}
    save_adapter(path, "image_projection", module, unet=tuned, metadata={"i2v.train_steps": "3"})
    loaded = load_adapter(path)
    assert loaded.kind == "image_projection"
    assert loaded.module.config == CONFIG
    assert loaded.metadata["i2v.train_steps"] == "3"
    assert not loaded.module.training
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(loaded.module.state_dict()[name], tensor, rtol=0, atol=0)
    torch.testing.assert_close(loaded.unet, tuned, rtol=0, atol=0)


def test_files_without_options_mean_the_defaults_and_unknown_values_are_refused() -> None:
    assert trained_options("look_back", {}).initialization == "hybrid"
    told = {"i2v.train_options": '{"initialization": "add_noise", "of_another_version": 1}'}
    assert trained_options("look_back", told).initialization == "add_noise"
    for wrong in ('{"initialization": "sideways"}', "[1]", "{"):
        with pytest.raises(CheckpointError, match="in its header"):
            trained_options("look_back", {"i2v.train_options": wrong})
    assert trained_betas({}) == "base"
    with pytest.raises(CheckpointError, match=r"i2v\.betas"):
        trained_betas({"i2v.betas": "cosine"})


def test_tuned_weights_replace_those_of_the_base_and_no_others(path: Path) -> None:
    unet = seed(VideoUNet(SMALL))
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    tuned = {TUNED: torch.full_like(before[TUNED], 7.0)}
    replace_weights(unet, tuned)
    changed = [name for name, tensor in unet.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == [TUNED]


def test_another_base_is_refused_by_its_first_mismatch() -> None:
    with pytest.raises(ValueError, match=r"'input_blocks.0.0.bias' has shape \(5,\), the model's is of shape"):
        replace_weights(VideoUNet(SMALL), {TUNED: torch.zeros(5)})


def test_a_checkpoint_is_no_adapter_and_an_adapter_no_checkpoint(path: Path) -> None:
    from i2v_core import load_checkpoint, save_checkpoint

    save_checkpoint(path, whole())
    with pytest.raises(CheckpointError, match="it is no adapter of this pack but a whole model"):
        read_adapter(path)
    save_adapter(path, "image_projection", ImageAdapter(CONFIG))
    with pytest.raises(CheckpointError, match="it is an adapter of this pack"):
        load_checkpoint(path)


def test_weights_that_several_adapters_trained_are_averaged_whatever_their_order() -> None:
    one, other = {"a": torch.tensor([1.0]), "b": torch.tensor([2.0])}, {"b": torch.tensor([4.0])}
    for given in ([one, other], [other, one]):
        assert mean_weights(given) == {"a": torch.tensor([1.0]), "b": torch.tensor([3.0])}
