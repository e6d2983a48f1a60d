"""Analytic initial noise: the paper's Gaussian, in sigma space and in the network's."""

import pytest
import torch

from i2v_core.diffusion.analytic_noise import analytic_start
from i2v_core.diffusion.prediction import network_input
from i2v_core.diffusion.schedule import Schedule, ScheduleConfig

SCHEDULE = Schedule(ScheduleConfig(zero_terminal_snr=True, rescale_base=0.7))


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("t", [0, 300, 939])
def test_the_network_sees_the_moments_of_the_paper(t: int) -> None:
    """N(sqrt(a) E, 1 - a + a Tr) of the rescaled clip s x0, in which the paper's equation is written."""
    alpha_bar, scale, variance = SCHEDULE.alpha_bar[t], SCHEDULE.scale[t], 0.8
    mean = normal(1, 4, 1, 1, 1).expand(1, 4, 16, 100, 100)
    start = analytic_start(normal(*mean.shape), SCHEDULE.sigma[t], mean, variance)
    z = network_input(start, SCHEDULE.sigma[t], scale)
    seen = z - alpha_bar.sqrt() * scale * mean
    assert seen.mean().item() == pytest.approx(0, abs=5e-3)
    assert seen.var().item() == pytest.approx((1 - alpha_bar + alpha_bar * scale**2 * variance).item(), rel=5e-3)


def test_without_videos_to_speak_of_it_is_plain_noise() -> None:
    noise, sigma = normal(1, 4, 2, 8, 8), SCHEDULE.sigma[939]
    torch.testing.assert_close(analytic_start(noise, sigma, variance=0.0), sigma * noise)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sigma": torch.tensor(0.0)}, "sigma must be positive and finite, got 0"),
        ({"variance": -1.0}, "variance must be finite and at least 0, got -1"),
        ({"variance": float("nan")}, "variance must be finite"),
        ({"mean": torch.zeros(1, 4, 2, 4, 4)}, r"mean must have the shape \(1, 4, 2, 8, 8\)"),
    ],
)
def test_what_gives_no_distribution_is_refused(changes: dict[str, object], sentence: str) -> None:
    arguments = {"noise": normal(1, 4, 2, 8, 8), "sigma": torch.tensor(3.0)} | changes
    with pytest.raises(ValueError, match=sentence):
        analytic_start(**arguments)  # type: ignore[arg-type]
