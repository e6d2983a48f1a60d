"""Laws of the three parametrizations: they are views of the same clean estimate."""

import pytest
import torch
from torch import Tensor

from i2v_core.diffusion.prediction import (
    Prediction,
    add_noise,
    from_denoised,
    network_input,
    reexpress,
    target,
    to_denoised,
)
from i2v_core.diffusion.schedule import Schedule, ScheduleConfig

PREDICTIONS: list[Prediction] = ["eps", "v", "x0"]
all_predictions = pytest.mark.parametrize("prediction", PREDICTIONS)
SCHEDULE = Schedule(ScheduleConfig(zero_terminal_snr=True, rescale_base=0.7))
TIMESTEPS = [0, 19, 500, 999]


def clip(seed: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 4, 3, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@all_predictions
@pytest.mark.parametrize("t", TIMESTEPS)
def test_the_target_leads_back_to_the_clean_clip(prediction: Prediction, t: int) -> None:
    x0, noise = clip(0), clip(1)
    alpha_bar, scale, sigma = SCHEDULE.alpha_bar[t], SCHEDULE.scale[t], SCHEDULE.sigma[t]
    y = x0 + sigma * noise
    torch.testing.assert_close(network_input(y, sigma, scale), add_noise(scale * x0, noise, alpha_bar))
    output = target(prediction, scale * x0, noise, alpha_bar)
    torch.testing.assert_close(to_denoised(prediction, output, y, sigma, scale), x0, rtol=0, atol=1e-10)


@all_predictions
@pytest.mark.parametrize("t", TIMESTEPS)
def test_from_denoised_inverts_to_denoised(prediction: Prediction, t: int) -> None:
    scale, sigma = SCHEDULE.scale[t], SCHEDULE.sigma[t]
    y, output = sigma * clip(0), clip(1)
    denoised = to_denoised(prediction, output, y, sigma, scale)
    again = from_denoised(prediction, denoised, y, sigma, scale)
    torch.testing.assert_close(again, output, rtol=0, atol=1e-9)


@pytest.mark.parametrize("t", [0, 500, 999])
def test_all_predictions_name_the_same_estimate(t: int) -> None:
    scale, sigma = SCHEDULE.scale[t], SCHEDULE.sigma[t]
    y, denoised = sigma * clip(0), clip(1)
    for prediction in PREDICTIONS:
        output = from_denoised(prediction, denoised, y, sigma, scale)
        torch.testing.assert_close(to_denoised(prediction, output, y, sigma, scale), denoised, rtol=0, atol=1e-10)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_without_noise_the_state_is_the_estimate(prediction: Prediction) -> None:
    y = clip(0)
    assert to_denoised(prediction, clip(1), y, torch.zeros(())).equal(y)
    assert network_input(y, torch.zeros(())).equal(y)


def test_at_zero_signal_v_is_the_negated_clip_and_the_state_all_noise() -> None:
    x0, noise, zero = clip(0), clip(1), torch.zeros((), dtype=torch.float64)
    assert add_noise(x0, noise, zero).equal(noise)
    assert target("v", x0, noise, zero).equal(-x0)


def test_the_network_input_keeps_unit_variance() -> None:
    noise = torch.randn(2, 4, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    for t in TIMESTEPS:
        scale, sigma = SCHEDULE.scale[t], SCHEDULE.sigma[t]
        unit_data = noise.roll(1, 0) / scale
        assert network_input(unit_data + sigma * noise, sigma, scale).std().item() == pytest.approx(1, abs=0.01)


@all_predictions
def test_a_level_per_clip_equals_clip_by_clip(prediction: Prediction) -> None:
    t = torch.tensor([19, 700])
    sigma, scale, alpha_bar = SCHEDULE.sigma[t], SCHEDULE.scale[t], SCHEDULE.alpha_bar[t]
    y, output = clip(0), clip(1)

    def everything(y: Tensor, output: Tensor, sigma: Tensor, scale: Tensor, alpha_bar: Tensor) -> Tensor:
        return torch.stack(
            [
                network_input(y, sigma, scale),
                to_denoised(prediction, output, y, sigma, scale),
                from_denoised(prediction, output, y, sigma, scale),
                add_noise(y, output, alpha_bar),
                target(prediction, y, output, alpha_bar),
            ],
            dim=1,
        )

    together = everything(y, output, sigma, scale, alpha_bar)
    for i in range(2):
        alone = everything(y[i : i + 1], output[i : i + 1], sigma[i], scale[i], alpha_bar[i])
        torch.testing.assert_close(together[i : i + 1], alone)


@all_predictions
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_results_keep_the_dtype_and_inputs_stay_untouched(prediction: Prediction, dtype: torch.dtype) -> None:
    y, output = clip(0, dtype=dtype), clip(1, dtype=dtype)
    before = y.clone(), output.clone()
    sigma, scale, alpha_bar = SCHEDULE.sigma[999], SCHEDULE.scale[999], SCHEDULE.alpha_bar[999]
    for result in (
        network_input(y, sigma, scale),
        to_denoised(prediction, output, y, sigma.to(dtype), scale),
        from_denoised(prediction, output, y, sigma, scale),
        add_noise(y, output, alpha_bar),
        target(prediction, y, output, alpha_bar),
    ):
        assert result.dtype == dtype
        assert result.isfinite().all()
    assert y.equal(before[0])
    assert output.equal(before[1])


def test_a_half_precision_output_does_not_coarsen_a_float32_state() -> None:
    y, output, sigma = clip(0, dtype=torch.float32), clip(1, dtype=torch.float16), torch.tensor(3.0)
    denoised = to_denoised("v", output, y, sigma)
    assert denoised.dtype == torch.float32
    torch.testing.assert_close(denoised, to_denoised("v", output.float(), y, sigma), rtol=0, atol=0)


def test_an_unknown_prediction_is_refused() -> None:
    x, level = clip(0), torch.tensor(0.5)
    with pytest.raises(ValueError, match=r"'eps', 'v', 'x0'.*'flow'"):
        to_denoised("flow", x, x, level)
    with pytest.raises(ValueError, match="'flow'"):
        from_denoised("flow", x, x, level)
    with pytest.raises(ValueError, match="'flow'"):
        target("flow", x, x, level)


@all_predictions
@pytest.mark.parametrize("t", TIMESTEPS)
def test_an_output_counted_from_another_origin_names_the_same_clean_clip(prediction: Prediction, t: int) -> None:
    scale, sigma, y, output = SCHEDULE.scale[t], SCHEDULE.sigma[t], clip(0), clip(1)
    own, wanted = clip(2)[:, :, :1], clip(3)[:, :, :1]
    denoised = to_denoised(prediction, output, y - own, sigma, scale) + own
    moved = reexpress(prediction, output, own - wanted, sigma, scale)
    torch.testing.assert_close(to_denoised(prediction, moved, y - wanted, sigma, scale) + wanted, denoised)
    assert reexpress(prediction, output, 0.0, sigma, scale) is output
