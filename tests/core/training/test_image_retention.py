"""Training of image retention: what is lost how often, what is trained, and that nothing else is."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from i2v_core import load_checkpoint, save_checkpoint
from i2v_core.build import build_autoencoder, build_unet
from i2v_core.model.image_retention import ImageRetention
from i2v_core.training.adapter import AdapterRecipe
from i2v_core.training.image_retention import ImageRetentionOptions, _trained_along, count_drops
from i2v_core.training.methods import adapter_task, run_adapter_recipe
from i2v_core.training.recipe import Recipe, new_networks
from i2v_core.weights import Checkpoint, load_adapter
from tests.core.training.small import small_recipe
from tests.core.weights.small import SMALL_IMAGE_MODEL, seed


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_independent_drops_lose_both_by_their_product() -> None:
    text, image = ImageRetentionOptions().draw(200_000, generator())
    assert text.float().mean().item() == pytest.approx(0.1, abs=0.003)
    assert image.float().mean().item() == pytest.approx(0.1, abs=0.003)
    assert (text & image).float().mean().item() == pytest.approx(0.01, abs=0.001)


def test_exclusive_drops_lose_each_by_its_own_share() -> None:
    options = ImageRetentionOptions(text_drop=0.1, image_drop=0.2, drops="exclusive", both_drop=0.05)
    text, image = options.draw(200_000, generator())
    assert (text & ~image).float().mean().item() == pytest.approx(0.1, abs=0.003)
    assert (image & ~text).float().mean().item() == pytest.approx(0.2, abs=0.003)
    assert (text & image).float().mean().item() == pytest.approx(0.05, abs=0.003)


def test_the_realized_rates_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    count = count_drops()
    with caplog.at_level(logging.INFO, "i2v_core.training"):
        for _ in range(16):
            count(torch.arange(100) < 10, torch.arange(100) < 5)
    assert caplog.messages == ["lost by 1600 clips: text 0.100, image 0.050, both 0.050"]


def small_base(folder: Path) -> tuple[Path, Recipe]:
    """A small checkpoint whose layers all contribute, and the recipe that it would be trained by."""
    recipe = small_recipe(folder)
    text_encoder, unet = new_networks(recipe)
    path = folder / "base.safetensors"
    checkpoint = Checkpoint(
        unet=seed(unet), image_projection=None, autoencoder=seed(build_autoencoder(recipe.autoencoder)),
        text_encoder=text_encoder, preset=recipe.preset, dialect="i2v", metadata={},
    )  # fmt: skip
    save_checkpoint(path, checkpoint)
    return path, recipe


def recipe_of(base: Path, folder: Path, recipe: Recipe, **options: object) -> AdapterRecipe:
    train = replace(recipe.train, output_dir=str(folder), learning_rates={"adapter": 1e-2, "unet": 1e-2})
    return AdapterRecipe(
        method="image_retention",
        base=str(base),
        train=train,
        data=recipe.data,
        adapter={"stem_channels": [4, 8, 8]},
        options=options,
    )


def test_branch_and_temporal_layers_are_trained_and_the_rest_of_the_base_is_not(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    before = load_checkpoint(base).unet
    adapter = load_adapter(run_adapter_recipe(recipe_of(base, tmp_path / "adapter", recipe, image_drop=0.5)))
    assert isinstance(adapter.module, ImageRetention)
    assert adapter.module.config.unet == before.config
    assert adapter.module.middle.weight.abs().max() > 0
    assert adapter.unet and all("temopral_conv" in name or ".2." in name for name in adapter.unet)
    own = before.state_dict()
    assert any(not torch.equal(tensor, own[name].half().float()) for name, tensor in adapter.unet.items())
    assert adapter.metadata["i2v.train_steps"] == "4"


@pytest.mark.parametrize("name", ["init_attention", "temporal_attention", "temporal_convolution"])
def test_temporal_layers_are_told_by_name_and_no_others(name: str) -> None:
    spatial = build_unet(SMALL_IMAGE_MODEL, device="meta").state_dict()
    assert not any(_trained_along(key, ImageRetentionOptions()) for key in spatial)
    video = build_unet(replace(SMALL_IMAGE_MODEL, **{name: True}), device="meta").state_dict()
    temporal = {key for key in video if _trained_along(key, ImageRetentionOptions())}
    assert len(video) - len(temporal) == len(spatial)
    assert not any(_trained_along(key, ImageRetentionOptions(temporal_layers=False)) for key in temporal)


def test_the_loss_of_a_step_is_always_the_same(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    task = adapter_task(recipe_of(base, tmp_path, recipe), load_checkpoint(base))
    assert torch.equal(task.loss(0, 2), task.loss(0, 2))
    assert not torch.equal(task.loss(0, 2), task.loss(1, 2))
