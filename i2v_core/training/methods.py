"""The methods that train an adapter, and the training of one from one configuration file."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from ..files import StrPath
from ..model.patch_autoencoder import PatchAutoencoder
from ..weights import Checkpoint, load_checkpoint
from ..weights.adapters import ADAPTERS
from ..weights.configs import decode_config
from .adapter import AdapterRecipe, AdapterTask, Method
from .clips import ClipSource
from .dynamicrafter import DYNAMICRAFTER
from .image_retention import IMAGE_RETENTION
from .look_back import LOOK_BACK
from .loop import Trainer
from .moving_crops import MovingCrops
from .recipe import data_fingerprint
from .temporal_noise_fusion import TEMPORAL_NOISE_FUSION

logger = logging.getLogger("i2v_core.training")

METHODS: dict[str, Method] = {
    "temporal_noise_fusion": TEMPORAL_NOISE_FUSION,
    "image_retention": IMAGE_RETENTION,
    "look_back": LOOK_BACK,
    "image_projection": DYNAMICRAFTER,
}


def run_adapter_recipe(recipe: AdapterRecipe, on_step: Callable[[int, float], None] | None = None) -> Path:
    """Train an adapter, going on where an earlier run was interrupted; return its file.

    Raises ValueError for a method or a base that cannot be trained here.
    """
    if recipe.method not in METHODS:
        raise ValueError(f"there is no training of '{recipe.method}'; choose one of {', '.join(METHODS)}")
    task = adapter_task(recipe, load_checkpoint(recipe.base, device=recipe.train.device))
    rates = recipe.train.learning_rates or dict(METHODS[recipe.method].learning_rates)
    trainer = Trainer(task, replace(recipe.train, learning_rates=rates))
    if trainer.resume():
        logger.info("going on from step %d", trainer.step)
    return trainer.run(on_step)


def adapter_task(recipe: AdapterRecipe, checkpoint: Checkpoint) -> AdapterTask:
    """The recipe's adapter and objective on its base.

    Raises ValueError if the checkpoint lacks an autoencoder or text encoder of ours.
    """
    method = METHODS[recipe.method]
    if not isinstance(checkpoint.autoencoder, PatchAutoencoder) or checkpoint.text_encoder is None:
        raise ValueError("training needs a base with an autoencoder and a text encoder of this project, as the demo's")
    options = decode_config(method.options, recipe.options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        adapter = method.build(checkpoint.unet, decode_config(ADAPTERS[recipe.method].configs[0], recipe.adapter))
    checkpoint.autoencoder.requires_grad_(False)
    checkpoint.text_encoder.requires_grad_(False)
    for name, parameter in checkpoint.unet.named_parameters():
        parameter.requires_grad_(method.trained_along(name, options))
    described = {
        "i2v.base_sha256": hashlib.sha256(Path(recipe.base).read_bytes()).hexdigest(),
        "i2v.dataset_fingerprint": data_fingerprint(recipe.data),
        "i2v.train_options": json.dumps(dict(recipe.options)),
    }
    return AdapterTask(
        kind=recipe.method,
        unet=checkpoint.unet,
        adapter=adapter,
        clips=ClipSource(MovingCrops(recipe.data), checkpoint.autoencoder),
        objective=method.objective(checkpoint, adapter, options),
        metadata=described,
    )


def read_adapter_recipe(path: StrPath) -> AdapterRecipe:
    """Read a recipe from JSON; an unknown or missing entry is an error that names it."""
    return decode_config(AdapterRecipe, json.loads(Path(path).read_text(encoding="utf-8")))
