"""A run with a LoRA writes it merged and alone, and goes on bit by bit where it was ended."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from i2v_core import Checkpoint, load_checkpoint, save_checkpoint
from i2v_core.training.checkpoint_files import lora_beside
from i2v_core.training.config import LoraConfig, OptimConfig, TrainingConfig
from i2v_core.training.log import Progress
from i2v_core.training.lora import apply_lora
from i2v_core.training.methods import adapter_task, run
from i2v_core.training.new_model import new_autoencoder, new_networks, new_preset
from i2v_core.training.stop import TrainingCanceled
from i2v_core.weights import load_adapter
from tests.core.training.small import adapter_config, small_recipe
from tests.core.weights.small import largest_difference, seed

STEPS = 4


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingConfig, Path]:
    """An uninterrupted run of TRIP whose layers over time get a LoRA."""
    folder = tmp_path_factory.mktemp("lora")
    base, recipe = folder / "base.safetensors", small_recipe(folder)
    text_encoder, unet = new_networks(recipe)
    networks = seed(unet), None, seed(new_autoencoder(recipe)), text_encoder
    save_checkpoint(base, Checkpoint(*networks, new_preset(recipe), "i2v", {}))
    config = adapter_config(
        base, "trip", recipe, folder / "run", adapter={"features": 32, "heads": 2}, options={"trained": "temporal"},
        max_train_steps=STEPS, checkpointing_steps=2,
    )  # fmt: skip
    optim = OptimConfig(param_groups={"adapter": 1e-2, "unet": 1e-2}, lr_warmup_steps=2)
    config = replace(config, optim=optim, lora=LoraConfig(rank=4, alpha=8.0))
    return config, run(config)


def test_the_lora_alone_makes_of_the_base_what_the_adapter_holds(whole_run: tuple[TrainingConfig, Path]) -> None:
    config, path = whole_run
    assert config.model.pretrained_model_name_or_path is not None
    for file in (
        path,
        path.with_name(f"trip-{STEPS:06d}.safetensors"),
        path.with_name(f"trip-{STEPS:06d}-ema.safetensors"),
    ):
        base = load_checkpoint(config.model.pretrained_model_name_or_path).unet
        before = {name: weight.clone() for name, weight in base.state_dict().items()}
        apply_lora(base, load_file(lora_beside(file)))
        merged = load_adapter(file).unet
        changed = {name for name, weight in base.state_dict().items() if not torch.equal(weight, before[name])}
        assert changed == merged.keys()
        assert all(".2.transformer_blocks." in name or name.startswith("init_attn.") for name in changed)
        for name, weight in merged.items():
            assert largest_difference(weight, base.state_dict()[name]) < 2e-3  # both files are in half precision


def test_an_ended_run_with_a_lora_goes_on_bit_by_bit(whole_run: tuple[TrainingConfig, Path], tmp_path: Path) -> None:
    config = replace(whole_run[0], train=replace(whole_run[0].train, output_dir=str(tmp_path / "run")))

    def cancel(progress: Progress) -> None:
        if progress.step == 3:
            raise TrainingCanceled("enough")

    with pytest.raises(TrainingCanceled):
        run(config, cancel)
    path = run(config)
    for one, other in ((path, whole_run[1]), (lora_beside(path), lora_beside(whole_run[1]))):
        first, second = load_file(one), load_file(other)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_layers_that_the_method_trains_get_a_lora(whole_run: tuple[TrainingConfig, Path]) -> None:
    config = replace(whole_run[0], lora=LoraConfig(layers="spatial"))
    with pytest.raises(ValueError, match="no attention layers of the kind 'spatial' among what is trained"):
        adapter_task(config)
