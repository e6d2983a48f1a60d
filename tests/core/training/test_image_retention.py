"""Training of image retention: what is lost how often, what is trained, and that nothing else is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from i2v_core import load_checkpoint, save_checkpoint
from i2v_core.conditions import grey, white
from i2v_core.methods import ImageRetentionMethod
from i2v_core.methods.image_retention import ImageRetentionOptions, trains
from i2v_core.model.image_retention import ImageRetention
from i2v_core.model.video_unet import VideoUNet
from i2v_core.training.config import ConditioningConfig, OptimConfig, TrainingConfig
from i2v_core.training.log import read_log
from i2v_core.training.methods import adapter_task, run
from i2v_core.training.new_model import new_autoencoder, new_networks, new_preset
from i2v_core.training.objective import DropMask, draw_drops, with_drops
from i2v_core.weights import Checkpoint, load_adapter
from tests.core.training.small import adapter_config, first_batch, small_recipe
from tests.core.weights.small import SMALL_IMAGE_MODEL, seed


def drawn(config: ConditioningConfig) -> DropMask:
    generator = torch.Generator().manual_seed(0)
    return draw_drops(config, *torch.rand(2, 200_000, generator=generator))


def test_independent_drops_lose_both_by_their_product() -> None:
    lost = drawn(ConditioningConfig(text_drop=0.1, image_drop=0.1))
    assert lost.text.float().mean().item() == pytest.approx(0.1, abs=0.003)
    assert lost.image.float().mean().item() == pytest.approx(0.1, abs=0.003)
    assert (lost.text & lost.image).float().mean().item() == pytest.approx(0.01, abs=0.001)


def test_exclusive_drops_lose_each_by_its_own_share() -> None:
    lost = drawn(ConditioningConfig(text_drop=0.1, image_drop=0.2, drop_mode="exclusive", both_drop=0.05))
    assert (lost.text & ~lost.image).float().mean().item() == pytest.approx(0.1, abs=0.003)
    assert (lost.image & ~lost.text).float().mean().item() == pytest.approx(0.2, abs=0.003)
    assert (lost.text & lost.image).float().mean().item() == pytest.approx(0.05, abs=0.003)


def small_base(folder: Path) -> tuple[Path, TrainingConfig]:
    """A small checkpoint whose layers all contribute, and the recipe that it would be trained by."""
    recipe = small_recipe(folder)
    text_encoder, unet = new_networks(recipe)
    path = folder / "base.safetensors"
    checkpoint = Checkpoint(
        unet=seed(unet), image_projection=None, autoencoder=seed(new_autoencoder(recipe)),
        text_encoder=text_encoder, preset=new_preset(recipe), dialect="i2v", metadata={},
    )  # fmt: skip
    save_checkpoint(path, checkpoint)
    return path, recipe


def config_of(base: Path, folder: Path, recipe: TrainingConfig, **conditioning: float) -> TrainingConfig:
    config = adapter_config(base, "image_retention", recipe, folder, adapter={"stem_channels": [4, 8, 8]})
    rates = OptimConfig(param_groups={"adapter": 1e-2, "unet": 1e-2}, lr_warmup_steps=2)
    return replace(config, optim=rates, conditioning=ConditioningConfig(**conditioning))  # type: ignore[arg-type]


def test_branch_and_temporal_layers_are_trained_and_the_rest_of_the_base_is_not(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    before = load_checkpoint(base).unet
    adapter = load_adapter(run(config_of(base, tmp_path / "adapter", recipe, image_drop=1.0, text_drop=0.0)))
    assert isinstance(adapter.module, ImageRetention)
    assert adapter.module.config.unet == before.config
    assert adapter.module.middle.weight.abs().max() > 0
    assert adapter.unet and all("temopral_conv" in name or ".2." in name for name in adapter.unet)
    own = before.state_dict()
    assert any(not torch.equal(tensor, own[name].half().float()) for name, tensor in adapter.unet.items())
    assert adapter.metadata["i2v.train_steps"] == "4"
    rows = read_log(tmp_path / "adapter")
    assert [(row["image_lost"], row["text_lost"], row["both_lost"]) for row in rows] == [(1.0, 0.0, 0.0)] * 2


@pytest.mark.parametrize("name", ["init_attention", "temporal_attention", "temporal_convolution"])
def test_temporal_layers_are_told_by_name_and_no_others(name: str) -> None:
    spatial = VideoUNet(SMALL_IMAGE_MODEL, device="meta").state_dict()
    assert not any(trains(key, ImageRetentionOptions()) for key in spatial)
    video = VideoUNet(replace(SMALL_IMAGE_MODEL, **{name: True}), device="meta").state_dict()
    temporal = {key for key in video if trains(key, ImageRetentionOptions())}
    assert len(video) - len(temporal) == len(spatial)
    assert not any(trains(key, ImageRetentionOptions(temporal_layers=False)) for key in temporal)


def test_the_loss_of_a_clip_is_always_the_same(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    task = adapter_task(config_of(base, tmp_path, recipe))
    first = task.objective(first_batch(task)).plain
    torch.testing.assert_close(task.objective(first_batch(task)).plain, first, rtol=0, atol=0)
    torch.testing.assert_close(
        task.objective(first_batch(task, size=1, first=1)).plain, first[1:], rtol=1e-4, atol=1e-5
    )
    assert not torch.equal(task.objective(first_batch(task, first=2)).plain, first)


def test_a_lost_image_is_white_for_the_branch_and_for_the_base(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    task = adapter_task(config_of(base, tmp_path, recipe, image_drop=1.0, text_drop=0.0))
    batch, autoencoder = first_batch(task), load_checkpoint(base).autoencoder
    assert autoencoder is not None
    seed(task.objective.networks["adapter"])
    without = task.objective(batch)
    assert without.no_image.all()
    other = task.objective(replace(batch, image=torch.zeros_like(batch.image), image_index=batch.image_index + 1))
    torch.testing.assert_close(other.plain, without.plain, rtol=0, atol=0)
    seen = adapter_task(config_of(base, tmp_path, recipe, image_drop=0.0, text_drop=0.0))
    seed(seen.objective.networks["adapter"])
    for picture, alike in ((white(batch.image), True), (grey(batch.image), False)):
        for given in (autoencoder.encode(picture)[:, :, None], None):
            loss = seen.objective(replace(batch, image=picture, given=given)).plain
            assert torch.equal(loss, without.plain) == (alike and given is not None)


def test_images_and_texts_are_lost_with_the_paper_s_shares() -> None:
    training = ImageRetentionMethod.training
    drops = with_drops(ConditioningConfig(), training.text_drop, training.image_drop, training.drop_mode)
    assert (drops.text_drop, drops.image_drop, drops.drop_mode) == (0.1, 0.1, "independent")
