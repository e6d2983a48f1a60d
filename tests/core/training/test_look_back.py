"""Look-back in training: what is trained, what the loss sees, and a file that generation reads."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from i2v_core import Checkpoint, load_checkpoint, save_checkpoint
from i2v_core.data.datasets import open_data
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.initialization import Initialization
from i2v_core.generate import GenerateConfig, animate
from i2v_core.methods import LookBackMethod
from i2v_core.model.attention import TemporalTransformer
from i2v_core.model.blocks import TemporalConvolution
from i2v_core.model.look_back import LookBack
from i2v_core.training.config import TrainingConfig
from i2v_core.training.methods import adapter_task, run
from i2v_core.training.new_model import begin_with, fitted_autoencoder, new_networks, new_preset
from i2v_core.weights import load_adapter
from tests.core.training.small import adapter_config, first_batch, small_recipe, without_time
from tests.core.weights.small import seed

OPTIONS = {"trained_along": ["out."]}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    """For a small image model, a video model without its temporal layers."""
    folder = tmp_path_factory.mktemp("look_back")
    base = without_time(small_recipe(folder))
    text_encoder, unet = new_networks(base)
    torch.nn.init.normal_(unet.out[-1].weight, std=0.1)
    autoencoder = fitted_autoencoder(base, open_data(base.data), folder / "patches.safetensors")
    checkpoint = Checkpoint(unet.eval(), None, autoencoder, text_encoder, new_preset(base), "i2v", {})
    save_checkpoint(folder / "base.safetensors", checkpoint)
    return adapter_config(
        folder / "base.safetensors", "look_back", base, folder / "run", max_train_steps=3,
        adapter={"depth": 2, "adapter": "causal"}, options=OPTIONS,
    )  # fmt: skip


def base_of(config: TrainingConfig) -> Checkpoint:
    return load_checkpoint(str(config.model.pretrained_model_name_or_path))


@pytest.mark.parametrize("initialization", ["hybrid", "add_noise", "inversion"])
def test_a_step_changes_look_back_and_the_weights_named_and_no_others(
    config: TrainingConfig, initialization: str
) -> None:
    options = {**OPTIONS, "initialization": initialization}
    task = adapter_task(replace(config, method=replace(config.method, options=options)))
    task.objective(first_batch(task)).weighted.mean().backward()
    adapter, unet = task.objective.networks["adapter"], task.objective.networks["unet"]
    assert isinstance(adapter, LookBack)
    assert list(adapter.sites) == ["input_1", "input_3", "middle_0", "output_0", "output_3"]
    moved = {name for name, parameter in unet.named_parameters() if parameter.grad is not None}
    assert moved == {"out.0.weight", "out.0.bias", "out.2.weight", "out.2.bias"}
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("initialization", ["hybrid", "add_noise", "inversion"])
@torch.no_grad()
def test_hybrid_alone_shows_the_clean_first_frame_and_leaves_it_out_of_the_loss(
    config: TrainingConfig, initialization: str
) -> None:
    """Algorithm 2; this base estimates differences to the image, of which the clean first frame is zero."""
    task = adapter_task(replace(config, method=replace(config.method, options={"initialization": initialization})))
    unet, batch, seen = task.objective.networks["unet"], first_batch(task), list[torch.Tensor]()
    unet.register_forward_pre_hook(lambda module, args, given: seen.append(given["x"]), with_kwargs=True)
    loss = task.objective(batch).plain
    frames = seen[0][:, :4].abs().amax((0, 1, 3, 4))
    assert (frames == 0).tolist() == [initialization == "hybrid", False, False]

    def answered_otherwise(frame: int) -> torch.Tensor:
        handle = unet.register_forward_hook(lambda module, args, answer: answer.index_add(
            2, torch.tensor([frame]), torch.ones_like(answer[:, :, :1])
        ))  # fmt: skip
        changed: torch.Tensor = task.objective(batch).plain
        handle.remove()
        return changed

    assert torch.allclose(answered_otherwise(0), loss, atol=1e-4) == (initialization == "hybrid")
    assert not torch.allclose(answered_otherwise(1), loss, atol=1e-4)


def test_what_it_was_trained_with_travels_in_the_file_and_can_be_replaced(
    config: TrainingConfig, tmp_path: Path
) -> None:
    method = replace(config.method, options={"initialization": "add_noise"})
    train = replace(config.train, output_dir=str(tmp_path), max_train_steps=1)
    linear = replace(config.diffusion, betas="linear")
    adapter = load_adapter(run(replace(config, method=method, train=train, diffusion=linear)))
    checkpoint = base_of(config)
    denoiser = Denoiser.adapted(checkpoint.unet, checkpoint.preset, [adapter])
    assert denoiser.initialization == Initialization("add_noise")
    noise = denoiser.schedule.config
    assert (noise.beta_schedule, noise.beta_start, noise.beta_end) == ("linear", 1e-4, 2e-2)
    assert denoiser.begun("inversion").initialization == Initialization("inversion")
    lossy = denoiser.begun("inversion", exact_first=False).initialization
    assert torch.equal(lossy.result(torch.ones(1, 1, 2, 1, 1), torch.zeros(1, 1, 1, 1, 1)), torch.ones(1, 1, 2, 1, 1))
    with pytest.raises(ValueError, match="only inversion loses"):
        denoiser.begun("hybrid", exact_first=False)
    with pytest.raises(ValueError, match="no adapter of it"):
        replace(denoiser, methods=()).begun("hybrid")
    other = replace(adapter, kind="temporal_noise_fusion", metadata={})
    with pytest.raises(ValueError, match=r"different betas, \['base', 'linear'\]"):
        Denoiser.adapted(checkpoint.unet, checkpoint.preset, [adapter, other])


def test_training_writes_an_adapter_that_animates_from_the_given_picture(config: TrainingConfig) -> None:
    adapter = load_adapter(run(config))
    checkpoint = base_of(config)
    denoiser = Denoiser.adapted(checkpoint.unet, checkpoint.preset, [adapter])
    method = denoiser.find(LookBackMethod)
    assert method is not None and method.module.config.adapter == "causal"
    picture = torch.linspace(0, 1, 32 * 32 * 3).reshape(32, 32, 3)
    made = animate(checkpoint, picture, "pan left", config=GenerateConfig(frames=5), denoiser=denoiser)
    assert made.shape == (3, 5, 32, 32)
    pieces = animate(
        checkpoint, picture, "pan left", config=GenerateConfig(frames=5, frames_at_once=2), denoiser=denoiser
    )
    torch.testing.assert_close(pieces, made, rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="two adapters of kind look_back"):
        Denoiser.adapted(checkpoint.unet, checkpoint.preset, [adapter, adapter])


def test_a_recipe_may_begin_with_a_checkpoint_and_leave_out_its_temporal_layers(
    config: TrainingConfig, tmp_path: Path
) -> None:
    video = small_recipe(tmp_path, steps=1)
    image = without_time(video)
    text_encoder, base = new_networks(video)
    seed(base)
    for module in base.modules():  # temporal layers that add nothing, so that a frame of both networks is the same
        if isinstance(module, TemporalTransformer):
            module.proj_out.requires_grad_(False).weight.zero_()
            module.proj_out.bias.zero_()
        elif isinstance(module, TemporalConvolution):
            module.conv4[-1].requires_grad_(False).weight.zero_()
            module.conv4[-1].bias.zero_()
    checkpoint = replace(base_of(config), unet=base)
    unet = seed(new_networks(image)[1])
    x, text, pooled = torch.randn(1, 8, 1, 8, 8), torch.randn(1, 3, 32), torch.randn(1, 32)
    begin_with(checkpoint, text_encoder, unet)
    with torch.no_grad():
        outputs = [network(x, torch.full((1,), 500.0), text, pooled_text=pooled) for network in (unet, base)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    assert outputs[0].abs().max() > 0.1


def test_the_autoencoder_of_a_checkpoint_to_begin_with_stays(config: TrainingConfig, tmp_path: Path) -> None:
    base = base_of(config)
    recipe = small_recipe(tmp_path, steps=1)
    path = config.model.pretrained_model_name_or_path
    recipe = replace(recipe, model=replace(recipe.model, pretrained_model_name_or_path=path))
    trained = load_checkpoint(run(recipe))
    assert trained.autoencoder is not None and base.autoencoder is not None
    for name, tensor in base.autoencoder.state_dict().items():
        torch.testing.assert_close(trained.autoencoder.state_dict()[name], tensor, rtol=0, atol=1e-3)
