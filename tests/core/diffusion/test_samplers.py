"""Laws of the samplers: exact ends, agreement with each other, with diffusers and with closed forms."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from i2v_core.diffusion.prediction import network_input, to_denoised
from i2v_core.diffusion.samplers import Denoise, sample_ddim, sample_euler
from i2v_core.diffusion.schedule import Schedule, ScheduleConfig, Spacing, reference_trajectory

SHAPE = (1, 4, 2, 4, 4)
PLAIN = Schedule()
DYNAMICRAFTER = Schedule(ScheduleConfig(zero_terminal_snr=True, rescale_base=0.7))
Sample = Callable[..., Tensor]
both_samplers = pytest.mark.parametrize("sample", [sample_ddim, sample_euler])


def normal(seed: int, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gaussian(spread: float) -> Denoise:
    """The exact denoiser of data drawn from N(0, spread^2)."""
    return lambda x, sigma: x * spread**2 / (spread**2 + sigma**2)


def toy_v(schedule: Schedule) -> Denoise:
    """A bounded v-predicting network behind `denoise(x, sigma)`."""

    def denoise(y: Tensor, sigma: Tensor) -> Tensor:
        scale, t = schedule.scale_at(sigma), schedule.timestep(sigma).item()
        z = network_input(y, sigma, scale)
        return to_denoised("v", 0.6 * z.tanh() - 0.3 * (3 * z + t / 250).sin(), y, sigma, scale)

    return denoise


@pytest.mark.parametrize("schedule", [PLAIN, DYNAMICRAFTER], ids=["plain", "dynamicrafter"])
def test_ddim_without_noise_is_euler(schedule: Schedule) -> None:
    sigmas = schedule.sigmas(50, "trailing")
    x = sigmas[0] * normal(0)
    ddim = sample_ddim(toy_v(schedule), x, sigmas, scales=schedule.scale_at(sigmas))
    torch.testing.assert_close(ddim, sample_euler(toy_v(schedule), x, sigmas), rtol=0, atol=1e-12)


def test_euler_follows_the_textbook_derivative() -> None:
    sigmas, denoise = PLAIN.sigmas(30, "trailing"), toy_v(PLAIN)
    x = textbook = sigmas[0] * normal(0)
    for sigma, following in pairwise(sigmas):
        textbook = textbook + (following - sigma) * (textbook - denoise(textbook, sigma)) / sigma
    torch.testing.assert_close(sample_euler(denoise, x, sigmas), textbook, rtol=0, atol=1e-10)


def test_euler_converges_to_the_flow_of_gaussian_data() -> None:
    x, end = 10 * normal(0), 0.1
    exact = x * ((0.5**2 + end**2) / (0.5**2 + 10**2)) ** 0.5
    errors = []
    for steps in (200, 400):
        sigmas = torch.logspace(1, -1, steps + 1, dtype=torch.float64)
        errors.append((sample_euler(gaussian(0.5), x, sigmas) - exact).abs().max().item())
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


def test_euler_upwards_inverts_euler_downwards() -> None:
    down = torch.logspace(1, -1, 401, dtype=torch.float64)
    x = 10 * normal(0)
    again = sample_euler(gaussian(0.5), sample_euler(gaussian(0.5), x, down), down.flip(0))
    torch.testing.assert_close(again, x, rtol=0.05, atol=0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_keeps_the_noise_level_of_a_known_image(eta: float) -> None:
    image = normal(0, (1, 4, 8, 32, 32))
    for sigma, following in [(14.0, 5.0), (2.0, 1.9), (0.5, 0.03)]:
        y = image + sigma * normal(1, image.shape)
        levels = torch.tensor([sigma, following], dtype=torch.float64)
        moved = sample_ddim(
            lambda x, sigma: image, y, levels, eta=eta, noise=lambda step: normal(2 + step, image.shape)
        )
        assert (moved - image).std().item() == pytest.approx(following, rel=0.02)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_ddim_equals_diffusers(eta: float, prediction: str) -> None:
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type={"eps": "epsilon", "v": "v_prediction"}[prediction],
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == PLAIN.timesteps(50, "trailing")

    def network(z: Tensor) -> Tensor:
        return 0.6 * z.tanh() - 0.3 * (3 * z).sin()

    z = start = normal(99)
    for step, t in enumerate(scheduler.timesteps):
        noise = normal(step) if eta > 0 else None
        z = scheduler.step(network(z), t, z, eta=eta, variance_noise=noise).prev_sample

    def denoise(y: Tensor, sigma: Tensor) -> Tensor:
        return to_denoised(prediction, network(network_input(y, sigma)), y, sigma)

    sigmas = PLAIN.sigmas(50, "trailing")
    y = start / network_input(torch.ones((), dtype=torch.float64), sigmas[0])
    # diffusers keeps its tables in float32.
    torch.testing.assert_close(sample_ddim(denoise, y, sigmas, eta=eta, noise=normal), z, rtol=0, atol=1e-4)


def official_ddim(schedule: Schedule, z: Tensor, visited: list[int], eta: float) -> Tensor:
    """The reference loop in its own variance-preserving form, in float64."""
    path = [*visited, 0]
    scales = [*schedule.scale[visited].tolist(), schedule.scale[visited[-1]].item()]
    for step, (t, following) in enumerate(pairwise(path)):
        a, b = schedule.alpha_bar[t], schedule.alpha_bar[following]
        v = 0.6 * z.tanh() - 0.3 * (3 * z + t / 250).sin()
        clean, noise = a.sqrt() * z - (1 - a).sqrt() * v, a.sqrt() * v + (1 - a).sqrt() * z
        fresh = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
        z = b.sqrt() * clean * scales[step + 1] / scales[step] + (1 - b - fresh**2).sqrt() * noise
        z = z + fresh * normal(step)
    return z


@pytest.mark.parametrize("spacing", ["uniform", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_scales_make_the_stochastic_split_of_a_rescaled_schedule_exact(eta: float, spacing: Spacing) -> None:
    schedule = Schedule(ScheduleConfig(rescale_base=0.3))
    path, z = reference_trajectory(schedule, 25, spacing), normal(99)
    y = z / network_input(torch.ones((), dtype=torch.float64), path.sigmas[0], path.scales[0])
    ours = sample_ddim(toy_v(schedule), y, path.sigmas, eta=eta, noise=normal, scales=path.scales)
    official = official_ddim(schedule, z, schedule.timesteps(25, spacing), eta)
    torch.testing.assert_close(path.shrink * ours, official, rtol=0, atol=1e-9)


@both_samplers
def test_sigma_zero_returns_the_clean_estimate_exactly(sample: Sample) -> None:
    image = normal(0, dtype=torch.float32)
    x = 6455 * normal(1, dtype=torch.float32)
    assert sample(lambda x, sigma: image, x, DYNAMICRAFTER.sigmas(7, "trailing")).equal(image)


def test_sigma_zero_is_exact_with_fresh_noise_too() -> None:
    image, asked = normal(0), []

    def noise(step: int) -> Tensor:
        asked.append(step)
        return normal(step)

    sigmas = DYNAMICRAFTER.sigmas(7, "trailing")
    result = sample_ddim(lambda x, sigma: image, sigmas[0] * normal(1), sigmas, eta=1.0, noise=noise)
    assert result.equal(image)
    assert asked == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("eta", "spacing"), [(0.0, "trailing"), (0.5, "trailing"), (1.0, "trailing"), (1.0, "uniform")]
)
def test_no_step_count_gives_nan(eta: float, spacing: Spacing) -> None:
    shape, denoise = (1, 1, 1, 2, 2), toy_v(DYNAMICRAFTER)
    for steps in (*range(1, 21), 25, 30, 33, 40, 49, 50, 51, 64, 75, 99, 100):
        sigmas = DYNAMICRAFTER.sigmas(steps, spacing).float()
        result = sample_ddim(
            denoise,
            sigmas[0] * normal(0, shape, torch.float32),
            sigmas,
            eta=eta,
            noise=lambda step: normal(step, shape, torch.float32),
            scales=DYNAMICRAFTER.scale_at(sigmas),
        )
        assert result.isfinite().all()
        assert result.abs().max() < 20


@both_samplers
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_only_the_result_is_rounded_to_the_dtype_of_x(sample: Sample, dtype: torch.dtype) -> None:
    sigmas = DYNAMICRAFTER.sigmas(5, "trailing")
    x = (sigmas[0] * normal(0)).to(dtype)
    before = x.clone()
    result = sample(toy_v(DYNAMICRAFTER), x, sigmas)
    wide = x.to(torch.promote_types(dtype, torch.float32))
    assert result.equal(sample(toy_v(DYNAMICRAFTER), wide, sigmas).to(dtype))
    assert result.isfinite().all()
    assert x.equal(before)


@both_samplers
def test_denoise_sees_every_sigma_but_the_last_as_passed(sample: Sample) -> None:
    sigmas, seen = PLAIN.sigmas(5, "trailing").float(), []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(sigma)
        return torch.zeros_like(x)

    sample(denoise, normal(0), sigmas)
    assert torch.stack(seen).equal(sigmas[:-1])


@both_samplers
def test_the_callback_gets_each_clean_estimate(sample: Sample) -> None:
    calls = []
    sigmas = PLAIN.sigmas(4, "trailing")
    result = sample(gaussian(0.5), normal(0), sigmas, callback=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert calls[-1][2].equal(result)


@both_samplers
def test_what_the_callback_raises_ends_the_sampling(sample: Sample) -> None:
    class CancelledError(Exception):
        pass

    def cancel(step: int, steps: int, denoised: Tensor) -> None:
        if step == 1:
            raise CancelledError(f"at {step} of {steps}")

    with pytest.raises(CancelledError, match="at 1 of 4"):
        sample(gaussian(0.5), normal(0), PLAIN.sigmas(4, "trailing"), callback=cancel)


@both_samplers
def test_a_single_sigma_is_no_step(sample: Sample) -> None:
    assert sample(gaussian(0.5), normal(0), torch.tensor([1.0])).equal(normal(0))


@both_samplers
@pytest.mark.parametrize(
    "wrong", [[], [[1.0, 0.0]], [1.0, 0.0, 0.0], [1.0, -1.0], [float("inf"), 0.0], [float("nan"), 0.0]]
)
def test_impossible_sigmas_are_refused(sample: Sample, wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="sigmas must be"):
        sample(gaussian(0.5), normal(0), torch.tensor(wrong))


def test_ddim_refuses_what_would_give_nan_or_broadcast() -> None:
    sigmas, x = PLAIN.sigmas(4, "trailing"), normal(0)
    with pytest.raises(ValueError, match=r"eta 1.0 adds noise at each step, got noise=None"):
        sample_ddim(gaussian(0.5), x, sigmas, eta=1.0)
    with pytest.raises(ValueError, match=r"eta must be in \[0, 1\], got 1.5"):
        sample_ddim(gaussian(0.5), x, sigmas, eta=1.5, noise=normal)
    with pytest.raises(ValueError, match=r"scales must have the shape \(5,\) of sigmas, got \(4,\)"):
        sample_ddim(gaussian(0.5), x, sigmas, scales=torch.ones(4))
    with pytest.raises(ValueError, match=r"noise\(0\) must have the shape"):
        sample_ddim(gaussian(0.5), x, sigmas, eta=1.0, noise=lambda step: normal(step, (1, 1, 1, 1, 1)))
