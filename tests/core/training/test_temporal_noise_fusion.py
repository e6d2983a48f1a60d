"""TRIP's training: the loss is that of the fused prediction, and reaches fusion and base alike."""

from dataclasses import replace

import pytest
import torch

from i2v_core.build import build_unet
from i2v_core.denoiser import Denoiser
from i2v_core.evaluation import evaluate_motion
from i2v_core.model.temporal_noise_fusion import TemporalNoiseFusion, TemporalNoiseFusionConfig
from i2v_core.training.adapter import AdapterRecipe, AdapterTask
from i2v_core.training.loop import Trainer
from i2v_core.training.methods import METHODS, adapter_task, run_adapter_recipe
from i2v_core.training.recipe import run_recipe
from i2v_core.training.temporal_noise_fusion import TemporalNoiseFusionOptions, trained_along
from i2v_core.weights import load_adapter, load_checkpoint
from tests.core.training.small import small_recipe
from tests.core.weights.small import SMALL

METHOD = "temporal_noise_fusion"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> AdapterRecipe:
    """A short training on a tiny base."""
    folder = tmp_path_factory.mktemp("trip")
    small = small_recipe(folder, steps=2)
    return AdapterRecipe(
        method=METHOD,
        base=str(run_recipe(small)),
        train=replace(small.train, output_dir=str(folder / "adapter"), max_train_steps=2, logging_steps=1),
        data=small.data,
        adapter={"features": 32, "heads": 2},
    )


def task(recipe: AdapterRecipe, **options: str) -> AdapterTask:
    return adapter_task(replace(recipe, options=options), load_checkpoint(recipe.base))


def silent(task: AdapterTask) -> list[str]:
    """Trained parameters that the loss does not reach."""
    for parameter in task.modules.parameters():
        torch.nn.init.normal_(parameter, std=0.05)  # zero-initialized layers hide what lies behind them
    task.loss(0, 2).backward()
    return [
        name
        for name, p in task.modules.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum())
    ]


def test_gradients_reach_every_parameter_of_fusion_and_base(recipe: AdapterRecipe) -> None:
    trained = task(recipe)
    assert all(parameter.requires_grad for parameter in trained.modules.parameters())
    assert silent(trained) == []


def test_the_layers_over_time_can_be_trained_alone(recipe: AdapterRecipe) -> None:
    trained = task(recipe, trained="temporal")
    names = [name for name, p in trained.unet.named_parameters() if p.requires_grad]
    assert 0 < len(names) < len(list(trained.unet.parameters()))
    assert silent(trained) == []


def test_the_layers_over_time_are_those_that_an_image_model_lacks() -> None:
    still = replace(SMALL, temporal_convolution=False, temporal_attention=False, init_attention=False)
    temporal = TemporalNoiseFusionOptions(trained="temporal")
    kept = [p.numel() for name, p in build_unet(SMALL).named_parameters() if not trained_along(name, temporal)]
    assert sum(kept) == sum(parameter.numel() for parameter in build_unet(still).parameters())


@pytest.mark.parametrize(("in_channels", "features"), [(4, 32), (8, None)])
def test_a_base_without_channels_for_the_image_gets_a_convolution_for_it(
    in_channels: int, features: int | None
) -> None:
    base = build_unet(replace(SMALL, in_channels=in_channels))
    fusion = METHODS[METHOD].build(base, TemporalNoiseFusionConfig(features=32, heads=2, position="channel"))
    hint = fusion.image_hint(torch.randn(2, 4, 1, 8, 8))  # type: ignore[operator]
    assert fusion.config.image_features == features  # type: ignore[union-attr]
    assert hint is None if features is None else hint.shape == (2, features, 8, 8) and not hint.any()


def test_it_starts_as_the_residual_path_alone(recipe: AdapterRecipe) -> None:
    learned = task(recipe)
    without = adapter_task(replace(recipe, adapter={"fusion": "none"}), load_checkpoint(recipe.base))
    torch.testing.assert_close(learned.loss(0, 2), without.loss(0, 2))


def test_a_run_ends_in_an_adapter_that_animates_and_fuses(recipe: AdapterRecipe) -> None:
    adapter, checkpoint = load_adapter(run_adapter_recipe(recipe)), load_checkpoint(recipe.base)
    assert isinstance(adapter.module, TemporalNoiseFusion)
    assert adapter.module.proj_out.weight.abs().sum() > 0, "it left its start"
    assert adapter.unet.keys() == dict(checkpoint.unet.named_parameters()).keys()
    denoiser = Denoiser.adapted(checkpoint.unet, checkpoint.preset, [adapter])
    report = evaluate_motion(checkpoint, clips=2, denoiser=denoiser, photographs=("skimage:chelsea.png",))
    assert report.clips == 2


def test_the_paper_s_two_learning_rates_are_the_default_and_a_recipe_may_name_others(recipe: AdapterRecipe) -> None:
    assert METHODS[METHOD].learning_rates == {"adapter": 2e-4, "unet": 2e-6}
    trainer = Trainer(task(recipe), replace(recipe.train, learning_rates=dict(METHODS[METHOD].learning_rates)))
    assert [group["full_lr"] for group in trainer.optimizer.param_groups] == [2e-4, 2e-6]
