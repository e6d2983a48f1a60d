"""A recipe ends in a checkpoint that loads, animates and says how it was made."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from i2v_core import CheckpointError, load_checkpoint
from i2v_core.generate import animate
from i2v_core.training.moving_crops import MovingCrops
from i2v_core.training.recipe import (
    Recipe,
    data_fingerprint,
    fitted_autoencoder,
    new_networks,
    read_recipe,
    run_recipe,
)
from tests.core.training.small import small_recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, list[tuple[str, int, int]]]:
    recipe = small_recipe(tmp_path_factory.mktemp("recipe"))
    seen: list[tuple[str, int, int]] = []
    path = run_recipe(recipe, lambda part, step, steps, _: seen.append((part, step, steps)))
    return recipe, path, seen


def test_both_trainings_run_and_report(trained: tuple[Recipe, Path, list[tuple[str, int, int]]]) -> None:
    _, _, seen = trained
    assert seen == [("autoencoder", i, 2) for i in (1, 2)] + [("video", i, 4) for i in (1, 2, 3, 4)]


def test_the_checkpoint_says_how_it_was_made(
    trained: tuple[Recipe, Path, list[tuple[str, int, int]]],
) -> None:
    recipe, path, _ = trained
    checkpoint = load_checkpoint(path)
    assert checkpoint.metadata["i2v.train_steps"] == "4"
    assert checkpoint.metadata["i2v.dataset_fingerprint"] == data_fingerprint(recipe.data)
    assert json.loads(checkpoint.metadata["i2v.train_config"]) == asdict(recipe.train)
    assert checkpoint.preset == recipe.preset


def test_the_checkpoint_animates_a_picture(trained: tuple[Recipe, Path, list[tuple[str, int, int]]]) -> None:
    clip = animate(load_checkpoint(trained[1]), torch.rand(40, 50, 3), "pan left")
    assert clip.shape == (3, 3, 32, 32)
    assert clip.isfinite().all()


def test_training_again_has_nothing_left_to_do(
    trained: tuple[Recipe, Path, list[tuple[str, int, int]]],
) -> None:
    recipe, path, _ = trained
    before = load_checkpoint(path).unet.state_dict()
    steps: list[int] = []
    run_recipe(recipe, lambda _part, step, _steps, _loss: steps.append(step))
    assert steps == []
    for name, tensor in load_checkpoint(path).unet.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_gradients_reach_every_parameter(tmp_path: Path) -> None:
    from i2v_core.training.clips import ClipSource
    from i2v_core.training.recipe import save_modules
    from i2v_core.training.video_base import VideoTask

    recipe = small_recipe(tmp_path)
    text_encoder, unet = new_networks(recipe)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.05)  # zero-initialized layers hide what lies behind them
    data = MovingCrops(recipe.data)
    clips = ClipSource(data, fitted_autoencoder(recipe, data, tmp_path / "patches.safetensors"))
    task = VideoTask(unet, text_encoder, clips, recipe.preset, save_modules, text_drop=0.0)
    task.loss(0, 2).backward()
    silent = [name for name, p in task.modules.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == []


def test_a_recipe_file_with_an_unknown_entry_is_refused(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(asdict(recipe)))
    assert read_recipe(path) == recipe
    path.write_text(json.dumps(asdict(recipe) | {"learning_rat": 1}))
    with pytest.raises(CheckpointError, match="learning_rat"):
        read_recipe(path)
