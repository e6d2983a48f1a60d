"""Draws belong to clips; errors are weighed as their paper says."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.training_utils import compute_snr

from i2v_core.diffusion.prediction import Prediction, add_noise, min_snr_weight, target
from i2v_core.diffusion.schedule import Schedule, ScheduleConfig
from i2v_core.training.config import ConditioningConfig, DiffusionConfig
from i2v_core.training.log import LogWindow
from i2v_core.training.methods import adapter_task
from i2v_core.training.objective import ClipLosses, draw_timesteps
from i2v_core.training.per_clip_random import PerClipRandom
from tests.core.training.small import first_batch, silent
from tests.core.training.tiny import tiny_config


def test_a_clip_s_draws_depend_on_seed_and_number_only() -> None:
    together, alone = PerClipRandom.of(3, [7, 8, 9]), PerClipRandom.of(3, [8])
    assert torch.equal(together.uniform()[1:2], alone.uniform())
    assert torch.equal(together.normal((2, 3))[1:2], alone.normal((2, 3)))
    assert not torch.equal(PerClipRandom.of(4, [8]).normal((2, 3)), PerClipRandom.of(3, [8]).normal((2, 3)))
    assert not torch.equal(PerClipRandom.of(3, [7]).normal((2, 3)), PerClipRandom.of(3, [8]).normal((2, 3)))


def test_noise_is_the_same_however_much_else_is_drawn() -> None:
    one, other = PerClipRandom.of(0, [5]), PerClipRandom.of(0, [5])
    other.uniform()
    assert torch.equal(one.normal((4,)), other.normal((4,)))


def test_draws_are_distributed_as_they_say() -> None:
    draws = PerClipRandom.of(0, range(4000))
    uniform, normal = draws.uniform(), draws.normal((10,))
    assert uniform.min() >= 0 and uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.02)
    assert normal.mean().item() == pytest.approx(0, abs=0.02)
    assert normal.std().item() == pytest.approx(1, abs=0.02)


def test_timesteps_are_uniform_unless_a_recipe_says_otherwise() -> None:
    part, position = torch.rand(2, 100_000, generator=torch.Generator().manual_seed(0))
    drawn = draw_timesteps(DiffusionConfig(), 1000, part, position)
    torch.testing.assert_close(
        torch.histc(drawn.float(), 10, 0, 1000) / len(drawn), torch.full((10,), 0.1), atol=0.005, rtol=0
    )


def test_a_share_of_the_timesteps_comes_from_the_noisiest_part() -> None:
    part, position = torch.rand(2, 100_000, generator=torch.Generator().manual_seed(0))
    config = DiffusionConfig(noisy_share=0.5, noisy_from=0.6)
    drawn = draw_timesteps(config, 1000, part, position)
    assert drawn.min() >= 0 and drawn.max() == 999
    assert (drawn >= 600).float().mean().item() == pytest.approx(0.5 + 0.5 * 0.4, abs=0.01)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_min_snr_weights_follow_the_signal_to_noise_ratio(prediction: Prediction, zero_terminal_snr: bool) -> None:
    schedule = Schedule(ScheduleConfig(zero_terminal_snr=zero_terminal_snr))
    timesteps = torch.arange(0, 1000, 7)
    snr = compute_snr(SimpleNamespace(alphas_cumprod=schedule.alpha_bar), timesteps)
    wanted = {"eps": snr.clamp(max=5) / snr, "v": snr.clamp(max=5) / (snr + 1), "x0": snr.clamp(max=5)}[prediction]
    weight = min_snr_weight(prediction, schedule.alpha_bar[timesteps], 5.0)
    torch.testing.assert_close(weight.float(), wanted, rtol=1e-3, atol=1e-6)
    assert weight.isfinite().all()


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_min_snr_weighs_the_same_error_alike_whatever_is_predicted(prediction: Prediction) -> None:
    """A wrong clean estimate costs the same, said as x0, eps or v."""
    generator = torch.Generator().manual_seed(0)
    x0, wrong, noise = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    alpha_bar = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    z = add_noise(x0, noise, alpha_bar)
    implied = (z - alpha_bar.sqrt()[:, None] * wrong) / (1 - alpha_bar).sqrt()[:, None]
    costs = [
        min_snr_weight(kind, alpha_bar, 5.0)
        * (target(kind, wrong, implied, alpha_bar) - target(kind, x0, noise, alpha_bar)).square().mean(1)
        for kind in (prediction, "x0")
    ]
    torch.testing.assert_close(*costs)


def test_weights_change_what_is_trained_and_not_what_is_logged(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    plain = adapter_task(config)
    weighed = adapter_task(replace(config, diffusion=DiffusionConfig(snr_gamma=5.0)))
    batch = first_batch(plain, 4)
    one, other = plain.objective(batch), weighed.objective(batch)
    torch.testing.assert_close(other.plain, one.plain)
    torch.testing.assert_close(one.weighted, one.plain)
    assert not torch.allclose(other.weighted, other.plain)


def test_quartiles_are_means_over_quarters_of_the_schedule() -> None:
    window = LogWindow()
    none = torch.zeros(4)
    plain, timesteps = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0, 249, 250, 999])
    window.add(ClipLosses(2 * plain, plain, timesteps, none, none), 1000)
    row = window.row()
    assert (row["loss"], row["loss_plain"]) == (7.5, 3.75)
    assert (row["loss_quartile_1"], row["loss_quartile_2"], row["loss_quartile_4"]) == (1.5, 4.0, 8.0)
    assert "loss_quartile_3" not in row


@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        ("look_back", {"depth": 2}),
        ("trip", {"features": 32, "heads": 2}),
        ("image_retention", {"stem_channels": [4, 8, 8]}),
    ],
)
def test_gradients_reach_every_trained_parameter(tmp_path: Path, method: str, adapter: dict[str, object]) -> None:
    config = tiny_config(tmp_path)
    config = replace(
        config,
        method=replace(config.method, name=method, adapter=adapter, options={}),
        conditioning=ConditioningConfig(text_drop=0.0),
    )
    assert silent(adapter_task(config)) == []


def test_a_method_that_needs_the_image_cannot_lose_it(tmp_path: Path) -> None:
    config = replace(tiny_config(tmp_path), conditioning=ConditioningConfig(image_drop=0.1))
    with pytest.raises(ValueError, match="cannot do without the image"):
        adapter_task(config)


def test_an_adapter_keeps_its_base_s_prediction(tmp_path: Path) -> None:
    config = replace(tiny_config(tmp_path), diffusion=DiffusionConfig(prediction="eps"))
    with pytest.raises(ValueError, match=r"diffusion\.prediction is 'eps', but the base predicts 'x0'"):
        adapter_task(config)
