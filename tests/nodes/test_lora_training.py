"""A LoRA that was trained here does in the host what it did in training."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.nodes.stable_diffusion import stable_diffusion

LORA = {"rank": 4, "alpha": 2.0}


@pytest.fixture(scope="module")
def lora(tiny: Any, core: Callable[[str], Any]) -> Any:
    """The tiny base with a LoRA that is not at its start."""
    with torch.inference_mode(False):
        unet, training = copy.deepcopy(tiny.saved.checkpoint.unet), core("training.lora")
        training.add_lora(unet, core("training.config").LoraConfig(**LORA))
        draw = torch.Generator().manual_seed(0)
        for name, weight in unet.named_parameters():
            if ".lora_B." in name:
                weight.data.normal_(generator=draw)
        return unet


def test_the_host_s_loader_gives_the_trained_weights(
    lora: Any, tiny: Any, core: Callable[[str], Any], host_module: Callable[[str], Any], tmp_path: Path
) -> None:
    path, training = tmp_path / "lora.safetensors", core("training.lora")
    config, weights_of = core("training.config").LoraConfig(**LORA), lora.state_dict()
    training.save_lora(path, weights_of, config, dtype=torch.float32)
    file = host_module("comfy.utils").load_torch_file(str(path))
    patched, _ = host_module("comfy.sd").load_lora_for_models(tiny.model, None, file, 1.0, 0.0)
    expected = training.merged_weights(weights_of, config)
    assert {key.removeprefix("diffusion_model.") for key in patched.patches} == expected.keys()
    weights = host_module("comfy.lora")
    for name, tensor in expected.items():
        key = f"diffusion_model.{name}"
        before = patched.model.get_parameter(key).detach().clone()
        after = weights.calculate_weight(patched.patches[key], before.clone(), key)
        assert (after - before).abs().max() > 1e-3
        torch.testing.assert_close(after, tensor, atol=1e-5, rtol=1e-5)


def test_the_host_s_own_stable_diffusion_has_the_layers_of_such_a_lora(
    pack: Any, core: Callable[[str], Any], host_module: Callable[[str], Any]
) -> None:
    model, training = stable_diffusion().model, core("training.lora")
    known = host_module("comfy.lora").model_lora_keys_unet(model, {})
    layers = training.attention_layers(model.diffusion_model, "spatial")
    assert len(layers) > 8
    for name in layers:
        assert known[training.PREFIX + name.replace(".", "_")] == f"diffusion_model.{name}.weight"
