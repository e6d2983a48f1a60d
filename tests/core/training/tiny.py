"""Look-back beside a random base: a real training of a tenth of a second for each step."""

from dataclasses import replace
from pathlib import Path

from i2v_core import Checkpoint, save_checkpoint
from i2v_core.data.clips import encode_clips
from i2v_core.training.config import OptimConfig, TrainingConfig
from i2v_core.training.engine import Engine
from i2v_core.training.methods import adapter_task
from i2v_core.training.new_model import new_autoencoder, new_networks, new_preset
from tests.core.training.small import adapter_config, small_recipe, without_time
from tests.core.weights.small import seed


def tiny_config(folder: Path, **train: object) -> TrainingConfig:
    """A training in `folder/run`; its base is made if it is missing. `train` replaces settings of that section."""
    base, recipe = folder / "base.safetensors", without_time(small_recipe(folder))
    if not base.exists():
        text_encoder, unet = new_networks(recipe)
        networks = seed(unet), None, seed(new_autoencoder(recipe)), text_encoder
        save_checkpoint(base, Checkpoint(*networks, new_preset(recipe), "i2v", {}))
    config = adapter_config(base, "look_back", recipe, folder / "run", adapter={"depth": 2}, **train)
    logging = replace(config.logging, logging_steps=1)
    return replace(config, optim=OptimConfig(learning_rate=1e-2, lr_warmup_steps=2), logging=logging)


def first_gradients(config: TrainingConfig) -> Engine:
    """A run whose first batch went backward, and nothing else happened."""
    engine = Engine(adapter_task(config), config)
    raw = next(iter(engine.loader()))
    engine.backward(encode_clips(raw, engine.task.autoencoder))
    return engine
