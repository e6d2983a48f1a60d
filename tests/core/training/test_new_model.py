"""A complete training ends in a checkpoint that loads, animates and says how it was made."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from i2v_core import load_checkpoint
from i2v_core.data.datasets import open_data
from i2v_core.generate import animate
from i2v_core.training.config import ConditioningConfig, TrainingConfig
from i2v_core.training.config_file import read_config, resolved
from i2v_core.training.log import Progress
from i2v_core.training.methods import run
from i2v_core.training.new_model import new_autoencoder, new_networks
from i2v_core.training.video_base import video_task
from tests.core.training.small import first_batch, silent, small_recipe

Trained = tuple[TrainingConfig, Path, list[Progress]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    recipe = small_recipe(tmp_path_factory.mktemp("recipe"))
    seen: list[Progress] = []
    return recipe, run(recipe, seen.append), seen


def test_both_trainings_run_and_report(trained: Trained) -> None:
    seen = [(progress.part, progress.step, progress.steps) for progress in trained[2]]
    assert seen == [("autoencoder", i, 2) for i in (1, 2)] + [("video_base", i, 4) for i in (1, 2, 3, 4)]


def test_the_checkpoint_says_how_it_was_made(trained: Trained) -> None:
    recipe, path, _ = trained
    checkpoint = load_checkpoint(path)
    assert checkpoint.metadata["i2v.train_steps"] == "4"
    assert checkpoint.metadata["i2v.dataset_fingerprint"] == open_data(recipe.data).fingerprint()
    assert json.loads(checkpoint.metadata["i2v.train_config"]) == json.loads(json.dumps(resolved(recipe)))
    assert checkpoint.preset == recipe.model.preset
    assert read_config(path.parent / "config.toml") == recipe


def test_the_checkpoint_animates_a_picture(trained: Trained) -> None:
    clip = animate(load_checkpoint(trained[1]), torch.rand(40, 50, 3), "pan left")
    assert clip.shape == (3, 3, 32, 32)
    assert clip.isfinite().all()


def test_training_again_has_nothing_left_to_do(trained: Trained) -> None:
    recipe, path, _ = trained
    before = load_checkpoint(path).unet.state_dict()
    seen: list[Progress] = []
    run(recipe, seen.append)
    assert seen == []
    for name, tensor in load_checkpoint(path).unet.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_gradients_reach_every_parameter(tmp_path: Path) -> None:
    recipe = replace(small_recipe(tmp_path), conditioning=ConditioningConfig(text_drop=0.0))
    task = video_task(recipe, open_data(recipe.data), new_autoencoder(recipe), *new_networks(recipe))
    assert silent(task) == []


def test_a_new_model_may_predict_something_else(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    losses = {}
    for prediction in ("eps", "v", "x0"):
        chosen = replace(recipe, diffusion=replace(recipe.diffusion, prediction=prediction))
        task = video_task(chosen, open_data(recipe.data), new_autoencoder(recipe), *new_networks(recipe))
        batch = first_batch(task, 2)
        losses[prediction] = task.objective(batch).plain
    # A new network answers zero: what it should have answered is all error, for eps of about unit size.
    assert losses["eps"].mean().item() == pytest.approx(1, abs=0.2)
    assert not torch.allclose(losses["v"], losses["eps"], rtol=1e-3)
    assert (losses["x0"] < losses["eps"]).all()
