"""Training of DynamiCrafter's two ways of the image: what is lost, what each stage trains, how it begins."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from i2v_core import load_checkpoint, save_checkpoint
from i2v_core.build import build_autoencoder
from i2v_core.denoiser import Denoiser
from i2v_core.model.image_injection import ImageAdapter
from i2v_core.training.adapter import AdapterRecipe, AdapterTask, is_temporal
from i2v_core.training.dynamicrafter import DynamiCrafterOptions, take_frames
from i2v_core.training.image_encoder import random_view
from i2v_core.training.methods import adapter_task, run_adapter_recipe
from i2v_core.training.recipe import Recipe, new_networks
from i2v_core.weights import Checkpoint, load_adapter
from tests.core.training.small import small_recipe
from tests.core.weights.small import seed

ADAPTER: dict[str, Any] = {
    "projection": {"features": 32, "depth": 1, "heads": 1, "head_dim": 32, "queries": 2, "frames": 3},
    "encoder": {"size": 16, "patch": 8, "features": 32, "layers": 1, "heads": 1},
}


def small_base(folder: Path, text_to_video: bool = False) -> tuple[Path, Recipe]:
    """A small checkpoint whose layers all contribute, and the recipe that it would be trained by."""
    recipe = small_recipe(folder)
    if text_to_video:
        preset = replace(recipe.preset, image_residual=False)
        recipe = replace(recipe, unet=replace(recipe.unet, in_channels=4), preset=preset)
    text_encoder, unet = new_networks(recipe)
    checkpoint = Checkpoint(
        unet=seed(unet), image_projection=None, autoencoder=seed(build_autoencoder(recipe.autoencoder)),
        text_encoder=text_encoder, preset=recipe.preset, dialect="i2v", metadata={},
    )  # fmt: skip
    save_checkpoint(folder / "base.safetensors", checkpoint)
    return folder / "base.safetensors", recipe


def recipe_of(
    base: Path, folder: Path, recipe: Recipe, adapter: dict[str, Any] | None = None, **options: Any
) -> AdapterRecipe:
    train = replace(recipe.train, output_dir=str(folder), learning_rates={"adapter": 1e-2, "unet": 1e-2})
    return AdapterRecipe("image_projection", str(base), train, recipe.data, adapter or ADAPTER, options)


def task_of(base: Path, recipe: AdapterRecipe) -> AdapterTask:
    return adapter_task(recipe, load_checkpoint(base))


def test_each_fate_has_the_papers_share() -> None:
    text, image = DynamiCrafterOptions().draw(200_000, torch.Generator().manual_seed(0))
    for lost in (text & ~image, text & image, image & ~text):
        assert lost.float().mean().item() == pytest.approx(0.05, abs=0.003)


def test_the_first_stage_trains_streams_and_projection_and_nothing_else(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    file = tmp_path / "encoder.safetensors"
    options = {"encoder_file": str(file), "encoder_steps": 1}
    path = run_adapter_recipe(recipe_of(base, tmp_path / "one", recipe, **options))
    adapter = load_adapter(path)
    assert isinstance(adapter.module, ImageAdapter) and adapter.module.encoder is not None
    assert adapter.unet == {}
    assert all(stream.to_v_ip.weight.abs().max() > 0 for stream in adapter.module.injection.streams.values())
    for name, weight in load_file(file).items():
        assert torch.equal(adapter.module.encoder.state_dict()[name], weight.half().float())
    checkpoint = load_checkpoint(base)
    assert Denoiser.adapted(checkpoint.unet, checkpoint.preset, [adapter]).image_projection is adapter.module


@pytest.mark.parametrize("trained", ["all", "temporal"])
def test_the_second_stage_goes_on_from_the_first_and_trains_the_base_along(tmp_path: Path, trained: str) -> None:
    base, recipe = small_base(tmp_path)
    first = run_adapter_recipe(recipe_of(base, tmp_path / "one", recipe))
    task = task_of(base, recipe_of(base, tmp_path / "two", recipe, stage=2, trained=trained, begin_with=str(first)))
    for name, weight in load_adapter(first).module.state_dict().items():
        assert torch.equal(task.adapter.state_dict()[name], weight)
    along = {name for name, weight in task.unet.named_parameters() if weight.requires_grad}
    assert along == {name for name, _ in task.unet.named_parameters() if trained == "all" or is_temporal(name)}


def test_an_adapter_of_another_shape_is_not_gone_on_from(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    first = run_adapter_recipe(recipe_of(base, tmp_path / "one", recipe))
    wider = {**ADAPTER, "projection": {**ADAPTER["projection"], "queries": 3}}
    with pytest.raises(ValueError, match="another configuration"):
        task_of(base, recipe_of(base, tmp_path, recipe, wider, begin_with=str(first)))


def test_a_lost_image_is_grey_before_the_encoder_and_stays_in_the_latent(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    kept = task_of(base, recipe_of(base, tmp_path, recipe, drop=0.0))
    lost = task_of(base, recipe_of(base, tmp_path, recipe, drop=1.0))  # text and image of every clip
    silent = replace(kept.clips.batch(0, 2), captions=["", ""])

    def losses() -> list[torch.Tensor]:
        return [task.objective(silent, torch.Generator().manual_seed(0)) for task in (kept, lost)]

    assert torch.equal(*losses())  # at its start the adapter adds nothing
    for task in (kept, lost):
        task.adapter.load_state_dict(seed(kept.adapter).state_dict())
    assert not torch.equal(*losses())


@pytest.mark.parametrize("visual_tokens", ["full", "global"])
@pytest.mark.parametrize("visual_detail", [False, True])
def test_a_text_to_video_base_gets_the_image_by_tokens_and_if_asked_by_its_latent(
    tmp_path: Path, visual_tokens: str, visual_detail: bool
) -> None:
    base, recipe = small_base(tmp_path, text_to_video=True)
    adapter = {**ADAPTER, "projection": {**ADAPTER["projection"], "visual_tokens": visual_tokens}}
    if visual_detail:
        adapter["injection"] = {"visual_detail": {}}
    task = task_of(base, recipe_of(base, tmp_path, recipe, adapter, condition_frame="first"))
    task.loss(0, 2).backward()
    trained = {name for name, weight in task.adapter.named_parameters() if weight.grad is not None}
    assert ("injection.visual_detail.weight" in trained) == visual_detail
    assert sum(name.endswith("to_v_ip.weight") for name in trained) == 4
    assert not any(name.startswith("encoder.") for name in trained)


def test_visual_detail_is_refused_where_the_base_has_it(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    with pytest.raises(ValueError, match="leave visual_detail out"):
        task_of(base, recipe_of(base, tmp_path, recipe, {**ADAPTER, "injection": {"visual_detail": {}}}))


def test_frames_are_taken_each_from_its_own_clip() -> None:
    clips = torch.arange(2 * 3 * 4).reshape(2, 3, 4, 1, 1)
    assert take_frames(clips, torch.tensor([1, 3])).flatten(1).tolist() == [[1, 5, 9], [15, 19, 23]]


def test_two_views_of_a_picture_are_alike_in_size_and_differ_in_content() -> None:
    draw, pixels = torch.Generator().manual_seed(0), torch.rand(2, 3, 16, 16)
    one, other = random_view(pixels, draw), random_view(pixels, draw)
    assert one.shape == pixels.shape
    assert (one - other).abs().max() > 0.1
