"""Laws of the noise schedule, and agreement with diffusers where both define the same thing."""

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler, rescale_zero_terminal_snr

from i2v_core.diffusion.schedule import (
    TERMINAL_ALPHA_BAR,
    Schedule,
    ScheduleConfig,
    Spacing,
    alphas_cumprod,
    signal_scale,
    spaced_timesteps,
)

CONFIGS = {
    "stable diffusion": ScheduleConfig(),
    "linear": ScheduleConfig(beta_start=1e-4, beta_end=2e-2, beta_schedule="linear"),
    "dynamicrafter 512": ScheduleConfig(zero_terminal_snr=True, rescale_base=0.7),
    "dynamicrafter 1024": ScheduleConfig(zero_terminal_snr=True, rescale_base=0.3),
    "few timesteps": ScheduleConfig(timesteps=100, zero_terminal_snr=True, rescale_base=0.5),
    "many timesteps": ScheduleConfig(timesteps=8000, zero_terminal_snr=True),
}
all_configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
SPACINGS: list[Spacing] = ["uniform", "trailing"]


@pytest.mark.parametrize("kind", ["scaled_linear", "linear"])
@pytest.mark.parametrize("zero", [False, True])
def test_signal_levels_equal_those_of_diffusers(kind: str, zero: bool) -> None:
    reference = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule=kind, rescale_betas_zero_snr=zero)
    ours = alphas_cumprod(ScheduleConfig(beta_schedule=kind, zero_terminal_snr=zero))
    torch.testing.assert_close(ours.float(), reference.alphas_cumprod, rtol=1e-4, atol=1e-6)


def test_zero_terminal_snr_equals_the_published_algorithm_in_float64() -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    reference = torch.cumprod(1 - rescale_zero_terminal_snr(betas), dim=0)
    ours = alphas_cumprod(ScheduleConfig(zero_terminal_snr=True))
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-13)
    assert ours[-1] == 0
    assert ours[0] == alphas_cumprod(ScheduleConfig())[0]


def test_known_numbers() -> None:
    plain, terminal = Schedule(), Schedule(ScheduleConfig(zero_terminal_snr=True))
    assert plain.alpha_bar[[0, 999]].tolist() == pytest.approx([0.99915, 0.0046601], rel=1e-4)
    assert (plain.sigma_min, plain.sigma_max) == pytest.approx((0.02917, 14.615), rel=1e-3)
    assert terminal.alpha_bar[998].item() == pytest.approx(1.968e-7, rel=1e-3)
    assert terminal.alpha_bar[999].item() == TERMINAL_ALPHA_BAR
    assert terminal.sigma_max == pytest.approx(4518.8, abs=0.1)
    for base, sigma_max in [(0.7, 6455), (0.3, 15063)]:
        rescaled = Schedule(ScheduleConfig(zero_terminal_snr=True, rescale_base=base))
        assert rescaled.sigma_max == pytest.approx(sigma_max, abs=1)


def test_signal_scale_falls_for_400_timesteps_then_stays() -> None:
    scale = signal_scale(ScheduleConfig(rescale_base=0.7))
    assert scale[[0, 399, 999]].tolist() == pytest.approx([1.0, 0.7, 0.7])
    assert (scale[:400].diff() < 0).all()
    torch.testing.assert_close(scale[:100], signal_scale(ScheduleConfig(timesteps=100, rescale_base=0.7)))
    assert (signal_scale(ScheduleConfig()) == 1).all()


@all_configs
def test_sigma_rises_and_stays_finite(config: ScheduleConfig) -> None:
    sigma = Schedule(config).sigma
    assert sigma.dtype == torch.float64
    assert sigma.isfinite().all()
    assert (sigma.diff() > 0).all()


@all_configs
def test_sigma_and_timestep_are_inverse(config: ScheduleConfig) -> None:
    schedule = Schedule(config)
    index = torch.arange(config.timesteps, dtype=torch.float64)
    torch.testing.assert_close(schedule.timestep(schedule.sigma), index, rtol=0, atol=1e-8)
    torch.testing.assert_close(schedule.sigma_at(index), schedule.sigma, rtol=1e-12, atol=0)
    between = index[:-1] + 0.3
    torch.testing.assert_close(schedule.timestep(schedule.sigma_at(between)), between, rtol=0, atol=1e-8)


@all_configs
def test_scale_and_signal_at_table_sigmas_are_the_tables(config: ScheduleConfig) -> None:
    schedule = Schedule(config)
    torch.testing.assert_close(schedule.scale_at(schedule.sigma), schedule.scale, rtol=1e-12, atol=0)
    torch.testing.assert_close(schedule.alpha_bar_at(schedule.sigma), schedule.alpha_bar, rtol=1e-10, atol=0)


def test_outside_the_table_the_ends_hold() -> None:
    schedule = Schedule(ScheduleConfig(rescale_base=0.7))
    beyond = torch.tensor([0.0, 1e-9, 1e9])
    assert schedule.timestep(beyond).tolist() == [0, 0, 999]
    assert schedule.scale_at(beyond).tolist() == pytest.approx([1, 1, 0.7])
    assert schedule.alpha_bar_at(beyond).tolist() == pytest.approx([1, 1, 0], abs=1e-9)


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_answers_keep_shape_and_at_least_float32(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    schedule, sigma = Schedule(), torch.ones(shape, dtype=dtype)
    for function in (schedule.timestep, schedule.sigma_at, schedule.scale_at, schedule.alpha_bar_at):
        answer = function(sigma)
        assert answer.shape == shape
        assert answer.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_sigmas_may_be_strided() -> None:
    schedule, sigma = Schedule(), torch.rand(3, 4) + 1
    torch.testing.assert_close(schedule.timestep(sigma.T), schedule.timestep(sigma).T)


def test_float32_sigmas_find_their_timestep() -> None:
    schedule = Schedule(ScheduleConfig(zero_terminal_snr=True, rescale_base=0.3))
    found = schedule.timestep(schedule.sigma.float())
    torch.testing.assert_close(found, torch.arange(1000.0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("steps", [50, 30, 25, 20])
def test_uniform_timesteps_are_those_of_the_official_sampler(steps: int) -> None:
    official = np.arange(0, 1000, 1000 // steps) + 1
    assert Schedule().timesteps(steps, "uniform") == official[::-1].tolist()


def test_uniform_spacing_of_30_yields_31_steps() -> None:
    assert len(Schedule().timesteps(30, "uniform")) == 31
    assert Schedule().timesteps(50, "uniform")[:2] == [981, 961]


@pytest.mark.parametrize("steps", [*range(1, 101), 250, 500, 1000])
def test_trailing_timesteps_are_those_of_the_official_sampler(steps: int) -> None:
    # numpy.arange sometimes rounds to one entry too many (61 steps), a last timestep of -1.
    official = np.round(np.arange(1000, 0, -1000 / steps)).astype(int)[:steps] - 1
    assert Schedule().timesteps(steps, "trailing") == official.tolist()


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("timesteps", [1000, 97])
def test_timesteps_descend_inside_the_table(spacing: Spacing, timesteps: int) -> None:
    schedule = Schedule(ScheduleConfig(timesteps=timesteps))
    for steps in range(1, timesteps + 1):
        visited = np.array(schedule.timesteps(steps, spacing))
        assert (np.diff(visited) < 0).all()
        assert 0 <= visited[-1] <= visited[0] < timesteps


@pytest.mark.parametrize("spacing", SPACINGS)
def test_sigmas_descend_to_zero_exactly(spacing: Spacing) -> None:
    schedule = Schedule(ScheduleConfig(zero_terminal_snr=True, rescale_base=0.7))
    sigmas = schedule.sigmas(20, spacing)
    assert len(sigmas) == 21
    assert (sigmas.diff() < 0).all()
    assert sigmas[-1] == 0
    torch.testing.assert_close(sigmas[:-1], schedule.sigma[schedule.timesteps(20, spacing)])


def test_an_earlier_start_is_spaced_like_a_shorter_table() -> None:
    visited = spaced_timesteps(940, 47, "trailing")
    assert (visited[0], visited[1], visited[-1], len(visited)) == (939, 919, 19, 47)
    with pytest.raises(ValueError, match="steps must be between 1 and 940, got 941"):
        spaced_timesteps(940, 941, "trailing")


def test_schedules_of_equal_configs_are_equal_values() -> None:
    assert Schedule(ScheduleConfig(rescale_base=0.7)) == Schedule(ScheduleConfig(rescale_base=0.7))
    assert Schedule() != Schedule(ScheduleConfig(rescale_base=0.7))


@pytest.mark.parametrize(
    "wrong",
    [
        {"timesteps": 1},
        {"beta_start": 0.0},
        {"beta_start": 0.02},
        {"beta_end": 1.0},
        {"beta_schedule": "cosine"},
        {"rescale_base": 0.0},
        {"rescale_base": 1.5},
    ],
)
def test_impossible_configs_are_refused_with_the_value(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        ScheduleConfig(**wrong)


def test_impossible_steps_and_spacings_are_refused() -> None:
    for steps in (0, -1, 1001):
        with pytest.raises(ValueError, match=f"between 1 and 1000, got {steps}"):
            Schedule().timesteps(steps, "trailing")
    with pytest.raises(ValueError, match=r"'uniform', 'trailing'.*'karras'"):
        Schedule().sigmas(10, "karras")
