"""TRIP's training: the loss is that of the fused prediction, and reaches fusion and base alike."""

from dataclasses import replace

import pytest
import torch

from i2v_core.denoiser import Denoiser
from i2v_core.evaluation import evaluate_motion
from i2v_core.methods.trip import TripOptions, new_fusion, trains
from i2v_core.model.temporal_noise_fusion import TemporalNoiseFusion, TemporalNoiseFusionConfig
from i2v_core.model.video_unet import VideoUNet
from i2v_core.presets import PRESETS
from i2v_core.training.config import TrainingConfig
from i2v_core.training.engine import TrainingTask
from i2v_core.training.methods import adapter_task, find_method, run
from i2v_core.weights import Checkpoint, load_adapter, load_checkpoint
from tests.core.training.small import adapter_config, first_batch, silent, small_recipe
from tests.core.weights.small import SMALL

METHOD = "temporal_noise_fusion"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    """A short training on a tiny base."""
    folder = tmp_path_factory.mktemp("trip")
    small = small_recipe(folder, steps=2)
    return adapter_config(run(small), METHOD, small, folder / "adapter", adapter={"features": 32, "heads": 2})


def task(config: TrainingConfig, adapter: dict[str, object] | None = None, **options: str) -> TrainingTask:
    method = replace(config.method, adapter=adapter or config.method.adapter, options=options)
    return adapter_task(replace(config, method=method))


def test_gradients_reach_every_parameter_of_fusion_and_base(config: TrainingConfig) -> None:
    trained = task(config)
    assert all(parameter.requires_grad for parameter in trained.objective.parameters())
    assert silent(trained) == []


def test_the_layers_over_time_can_be_trained_alone(config: TrainingConfig) -> None:
    trained = task(config, trained="temporal")
    parameters = list(trained.objective.networks["unet"].parameters())
    assert 0 < sum(parameter.requires_grad for parameter in parameters) < len(parameters)
    assert silent(trained) == []


def test_the_layers_over_time_are_those_that_an_image_model_lacks() -> None:
    still = replace(SMALL, temporal_convolution=False, temporal_attention=False, init_attention=False)
    temporal = TripOptions(trained="temporal")
    kept = [p.numel() for name, p in VideoUNet(SMALL).named_parameters() if not trains(name, temporal)]
    assert sum(kept) == sum(parameter.numel() for parameter in VideoUNet(still).parameters())


@pytest.mark.parametrize(("in_channels", "features"), [(4, 32), (8, None)])
def test_a_base_without_channels_for_the_image_gets_a_convolution_for_it(
    in_channels: int, features: int | None
) -> None:
    base = VideoUNet(replace(SMALL, in_channels=in_channels))
    checkpoint = Checkpoint(base, None, None, None, PRESETS["modelscope"], "i2v", {})
    fusion = new_fusion(checkpoint, TemporalNoiseFusionConfig(features=32, heads=2, position="channel"))
    hint = fusion.image_hint(torch.randn(2, 4, 1, 8, 8))
    assert fusion.config.image_features == features
    assert hint is None if features is None else hint.shape == (2, features, 8, 8) and not hint.any()


def test_it_starts_as_the_residual_path_alone(config: TrainingConfig) -> None:
    learned = task(config)
    without = task(config, {"fusion": "none"})
    batch = first_batch(learned)
    torch.testing.assert_close(learned.objective(batch), without.objective(batch))


def test_a_run_ends_in_an_adapter_that_animates_and_fuses(config: TrainingConfig) -> None:
    adapter, checkpoint = load_adapter(run(config)), load_checkpoint(str(config.model.pretrained_model_name_or_path))
    assert isinstance(adapter.module, TemporalNoiseFusion)
    assert adapter.module.proj_out.weight.abs().sum() > 0, "it left its start"
    assert adapter.unet.keys() == dict(checkpoint.unet.named_parameters()).keys()
    denoiser = Denoiser.adapted(checkpoint.unet, checkpoint.preset, [adapter])
    report = evaluate_motion(checkpoint, clips=2, denoiser=denoiser, photographs=("skimage:chelsea.png",))
    assert report.clips == 2


def test_it_is_known_by_both_names() -> None:
    assert find_method(METHOD) is find_method("trip")
