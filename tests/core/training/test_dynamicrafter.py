"""Training of DynamiCrafter's two ways of the image: what is lost, what each stage trains, how it begins."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from i2v_core import load_checkpoint, save_checkpoint
from i2v_core.conditions import grey
from i2v_core.denoiser import Denoiser
from i2v_core.methods import ImageProjectionMethod
from i2v_core.methods.method import is_temporal
from i2v_core.model.image_encoder import ImageEncoder, ImageEncoderConfig
from i2v_core.model.image_injection import ImageAdapter
from i2v_core.model.video_unet import VideoUNet
from i2v_core.training.config import ConditioningConfig, OptimConfig, TrainingConfig
from i2v_core.training.engine import TrainingTask
from i2v_core.training.image_encoder import pretrain_image_encoder, random_view, trained_image_encoder
from i2v_core.training.methods import adapter_task, run
from i2v_core.training.new_model import new_autoencoder, new_networks, new_preset
from i2v_core.training.objective import with_drops
from i2v_core.weights import Checkpoint, load_adapter
from tests.core.training.small import adapter_config, first_batch, small_recipe, without_time
from tests.core.weights.small import seed

ADAPTER: dict[str, Any] = {
    "projection": {"features": 32, "depth": 1, "heads": 1, "head_dim": 32, "queries": 2, "frames": 3},
    "encoder": {"size": 16, "patch": 8, "features": 32, "layers": 1, "heads": 1},
}


def small_base(folder: Path, text_to_video: bool = False, time: bool = True) -> tuple[Path, TrainingConfig]:
    """A small checkpoint whose layers all contribute, and the configuration that it would be trained by."""
    recipe = small_recipe(folder, steps=2)
    recipe = recipe if time else without_time(recipe)
    if text_to_video:
        assert recipe.model.unet is not None and recipe.model.preset is not None
        unet, preset = replace(recipe.model.unet, in_channels=4), replace(recipe.model.preset, image_residual=False)
        recipe = replace(recipe, model=replace(recipe.model, unet=unet, preset=preset))
    text_encoder, unet = new_networks(recipe)
    checkpoint = Checkpoint(
        unet=seed(unet), image_projection=None, autoencoder=seed(new_autoencoder(recipe)),
        text_encoder=text_encoder, preset=new_preset(recipe), dialect="i2v", metadata={},
    )  # fmt: skip
    save_checkpoint(folder / "base.safetensors", checkpoint)
    return folder / "base.safetensors", recipe


def config_of(
    base: Path, folder: Path, recipe: TrainingConfig, adapter: dict[str, Any] | None = None, **options: Any
) -> TrainingConfig:
    config = adapter_config(base, "dynamicrafter", recipe, folder, adapter=adapter or ADAPTER, options=options)
    return replace(config, optim=OptimConfig(param_groups={"adapter": 1e-2, "unet": 1e-2}, lr_warmup_steps=2))


def parts(task: TrainingTask) -> tuple[ImageAdapter, torch.nn.Module]:
    adapter = task.objective.networks["adapter"]
    assert isinstance(adapter, ImageAdapter)
    return adapter, task.objective.networks["unet"]


def test_the_first_stage_trains_streams_and_projection_and_nothing_else(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    file = tmp_path / "encoder.safetensors"
    trained_image_encoder(ImageEncoder(ImageEncoderConfig(**ADAPTER["encoder"])), file, noise, steps=1)
    adapter = load_adapter(run(config_of(base, tmp_path / "one", recipe, encoder_file=str(file))))
    assert isinstance(adapter.module, ImageAdapter) and adapter.module.encoder is not None
    assert adapter.unet == {}
    assert all(stream.to_v_ip.weight.abs().max() > 0 for stream in adapter.module.injection.streams.values())
    for name, weight in load_file(file).items():
        assert torch.equal(adapter.module.encoder.state_dict()[name], weight.half().float())
    checkpoint = load_checkpoint(base)
    method = Denoiser.adapted(checkpoint.unet, checkpoint.preset, [adapter]).find(ImageProjectionMethod)
    assert method is not None and method.adapter is adapter.module


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingConfig, Path]:
    """A base, its recipe, and an adapter after the first stage."""
    folder = tmp_path_factory.mktemp("first")
    base, recipe = small_base(folder)
    return base, recipe, run(config_of(base, folder / "one", recipe))


@pytest.mark.parametrize("trained", ["all", "temporal"])
def test_the_second_stage_goes_on_from_the_first_and_trains_the_base_along(
    first_stage: tuple[Path, TrainingConfig, Path], tmp_path: Path, trained: str
) -> None:
    base, recipe, first = first_stage
    config = config_of(base, tmp_path, recipe, stage=2, trained=trained, begin_with=str(first))
    adapter, unet = parts(adapter_task(config))
    for name, weight in load_adapter(first).module.state_dict().items():
        assert torch.equal(adapter.state_dict()[name], weight)
    along = {name for name, weight in unet.named_parameters() if weight.requires_grad}
    assert along == {name for name, _ in unet.named_parameters() if trained == "all" or is_temporal(name)}


def test_projection_and_streams_of_an_image_model_go_on_in_a_video_model_with_visual_detail_added(
    tmp_path: Path,
) -> None:
    """The paper's recipe (sections 3.2 and 4.1): text to image first, then video, coarse to fine."""
    (tmp_path / "image").mkdir()
    image, still = small_base(tmp_path / "image", text_to_video=True, time=False)
    still = replace(still, data=replace(still.data, frames=1))
    task = adapter_task(config_of(image, tmp_path, still))
    seed(parts(task)[0])
    batch = first_batch(task, 12)
    assert batch.latents.shape[2] == 1
    task.objective(batch).weighted.mean().backward()
    groups = parts(task)[0].projection.latents.grad.unflatten(1, (3, 2)).abs().sum((0, 2, 3))  # type: ignore[union-attr]
    assert (groups > 0).all(), "one frame trains the queries of every frame, by turns"
    first = run(config_of(image, tmp_path / "one", still))
    base, recipe = small_base(tmp_path, text_to_video=True)
    detailed = {**ADAPTER, "injection": {"visual_detail": {}}}
    config = config_of(base, tmp_path / "two", recipe, detailed, stage=2, begin_with=str(first))
    adapter, _ = parts(adapter_task(config))
    learned = load_adapter(first).module.state_dict()
    assert learned.keys() == adapter.state_dict().keys() - {"injection.visual_detail.weight"}
    assert all(torch.equal(adapter.state_dict()[name], weight) for name, weight in learned.items())
    assert adapter.injection.visual_detail is not None and not adapter.injection.visual_detail.weight.any()  # type: ignore[operator,union-attr]


def test_no_frames_are_queries_that_all_frames_share(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    shared = {**ADAPTER, "projection": {**ADAPTER["projection"], "frames": 0}}
    adapter, _ = parts(adapter_task(config_of(base, tmp_path, recipe, shared)))
    assert adapter.config.projection.frames is None
    assert adapter.tokens(torch.zeros(1, 3, 16, 16)).shape == (1, 2, 32)


def test_drops_exclude_each_other_with_the_paper_s_shares(tmp_path: Path) -> None:
    training = ImageProjectionMethod.training
    drops = with_drops(ConditioningConfig(), training.text_drop, training.image_drop, training.drop_mode)
    assert (drops.drop_mode, drops.text_drop, drops.image_drop, drops.both_drop) == ("exclusive", 0.05, 0.05, 0.05)
    base, recipe = small_base(tmp_path)
    objective = adapter_task(config_of(base, tmp_path, recipe)).objective
    assert objective.loss.args[0].conditioning == drops  # type: ignore[attr-defined]


def test_the_drawn_stride_is_told_to_a_base_that_knows_strides(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    assert recipe.model.unet is not None
    told = VideoUNet(replace(recipe.model.unet, fps_embedding=True))
    checkpoint = load_checkpoint(base)
    preset = replace(checkpoint.preset, fps_meaning="frame_stride", fps=3)
    checkpoint = replace(checkpoint, unet=seed(told), preset=preset)
    task = adapter_task(config_of(base, tmp_path, recipe), checkpoint)
    seed(parts(task)[0])
    batch = first_batch(task)
    one, six = (task.objective(replace(batch, stride=torch.full((2,), stride))).plain for stride in (1.0, 6.0))
    assert not torch.equal(one, six)
    rate = task.objective(replace(batch, stride=torch.full((2,), 6.0), fps=torch.full((2,), 4.0)))
    assert torch.equal(rate.plain, six), "a rate in seconds is no stride"


def test_an_adapter_of_another_shape_is_not_gone_on_from(
    first_stage: tuple[Path, TrainingConfig, Path], tmp_path: Path
) -> None:
    base, recipe, first = first_stage
    wider = {**ADAPTER, "projection": {**ADAPTER["projection"], "queries": 3}}
    with pytest.raises(ValueError, match="another configuration"):
        adapter_task(config_of(base, tmp_path, recipe, wider, begin_with=str(first)))


def test_a_lost_image_is_grey_before_the_encoder_and_stays_in_the_latent(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    config = config_of(base, tmp_path, recipe)
    task = adapter_task(replace(config, conditioning=ConditioningConfig(image_drop=1.0, text_drop=0.0)))
    batch, (adapter, _) = first_batch(task), parts(task)
    seed(adapter)
    lost = task.objective(batch)
    assert lost.no_image.all() and not lost.no_text.any()
    # Another picture changes nothing, another latent does.
    other = task.objective(replace(batch, image=torch.rand_like(batch.image)))
    assert torch.equal(other.plain, lost.plain)
    assert not torch.equal(task.objective(replace(batch, image_index=batch.image_index + 1)).plain, lost.plain)
    kept = adapter_task(replace(config, conditioning=ConditioningConfig(image_drop=0.0, text_drop=0.0)))
    seed(parts(kept)[0])
    null = kept.objective(replace(batch, image=grey(batch.image)))
    assert torch.equal(null.plain, lost.plain)
    assert not torch.equal(kept.objective(batch).plain, lost.plain)


@pytest.mark.parametrize("visual_tokens", ["full", "global"])
@pytest.mark.parametrize("visual_detail", [False, True])
def test_a_text_to_video_base_gets_the_image_by_tokens_and_if_asked_by_its_latent(
    tmp_path: Path, visual_tokens: str, visual_detail: bool
) -> None:
    base, recipe = small_base(tmp_path, text_to_video=True)
    adapter = {**ADAPTER, "projection": {**ADAPTER["projection"], "visual_tokens": visual_tokens}}
    if visual_detail:
        adapter["injection"] = {"visual_detail": {}}
    task = adapter_task(config_of(base, tmp_path, recipe, adapter))
    task.objective(first_batch(task)).weighted.mean().backward()
    trained = {name for name, weight in parts(task)[0].named_parameters() if weight.grad is not None}
    assert ("injection.visual_detail.weight" in trained) == visual_detail
    assert sum(name.endswith("to_v_ip.weight") for name in trained) == 4
    assert not any(name.startswith("encoder.") for name in trained)


def test_visual_detail_is_refused_where_the_base_has_it(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    with pytest.raises(ValueError, match="leave visual_detail out"):
        adapter_task(config_of(base, tmp_path, recipe, {**ADAPTER, "injection": {"visual_detail": {}}}))


def test_training_needs_an_image_encoder(tmp_path: Path) -> None:
    base, recipe = small_base(tmp_path)
    with pytest.raises(ValueError, match=r"describe one in method\.adapter\.encoder"):
        adapter_task(config_of(base, tmp_path, recipe, {"projection": ADAPTER["projection"]}))


def noise(index: int) -> torch.Tensor:
    return torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(index % 32)).clamp(-1, 1)


def test_the_image_encoder_learns_to_tell_pictures_apart_and_is_kept(tmp_path: Path) -> None:
    config, path = ImageEncoderConfig(**ADAPTER["encoder"]), tmp_path / "folder" / "encoder.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        new = ImageEncoder(config)
    weights = {name: weight.clone() for name, weight in new.state_dict().items()}

    def colored(index: int) -> torch.Tensor:
        return noise(index) * 0.1 + noise(index).mean((1, 2), keepdim=True) * 20

    assert pretrain_image_encoder(new, colored, steps=40, batch_size=16) > 0.3  # chance is 1/16
    assert any(not torch.equal(weight, weights[name]) for name, weight in new.state_dict().items())
    trained_image_encoder(new, path, colored, steps=1)
    with torch.no_grad():
        other = ImageEncoder(config)
    trained_image_encoder(other, path, colored, steps=1)
    assert all(torch.equal(weight, new.state_dict()[name]) for name, weight in other.state_dict().items())
    with pytest.raises(ValueError, match="another image encoder"):
        trained_image_encoder(ImageEncoder(replace(config, layers=2)), path, colored, steps=1)


def test_two_views_of_a_picture_are_alike_in_size_and_differ_in_content() -> None:
    draw, pixels = torch.Generator().manual_seed(0), torch.rand(2, 3, 16, 16)
    one, other = random_view(pixels, draw), random_view(pixels, draw)
    assert one.shape == pixels.shape
    assert (one - other).abs().max() > 0.1
