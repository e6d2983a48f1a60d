"""The whole chain (schedule, prediction, guidance, DDIM) against the official DynamiCrafter sampler."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from i2v_core.diffusion.guidance import ClassifierFreeGuidance
from i2v_core.diffusion.prediction import network_input, to_denoised
from i2v_core.diffusion.samplers import sample_ddim
from i2v_core.diffusion.schedule import Schedule, ScheduleConfig, reference_trajectory, with_reference_end
from tests.parity import seeded

CASES = ["ddim_512_eta0_50", "ddim_512_eta1_50"]


@dataclass
class GuidedToy:
    """The toy network of the cases behind `denoise(x, sigma)`; remembers what the network was shown."""

    schedule: Schedule
    guidance: ClassifierFreeGuidance
    shown: list[Tensor] = field(default_factory=list)
    visited: list[float] = field(default_factory=list)

    def __call__(self, y: Tensor, sigma: Tensor) -> Tensor:
        scale, t = self.schedule.scale_at(sigma), self.schedule.timestep(sigma).item()
        z = network_input(y, sigma, scale)
        self.shown.append(z)
        self.visited.append(t)
        conditional = 0.6 * torch.tanh(z) - 0.3 * torch.sin(3 * z + t / 250)
        return to_denoised("v", self.guidance.combine(conditional, 0.8 * conditional), y, sigma, scale)


@pytest.mark.parametrize("name", CASES)
def test_official_ddim_is_reproduced(name: str) -> None:
    case = seeded.load(name)
    schedule = Schedule(ScheduleConfig(zero_terminal_snr=case["zero_terminal_snr"], rescale_base=case["scale_base"]))
    denoise = GuidedToy(schedule, ClassifierFreeGuidance(case["cfg"], case["guidance_rescale"]))
    path = reference_trajectory(schedule, case["steps"], "trailing")
    start = path.sigmas[0]
    # The case starts in the network's space; network_input is linear, so its factor leads back to y.
    x = seeded.seeded_normal(f"{name}/x_T", case["shape"]) / network_input(torch.ones(()), start, path.scales[0])
    result = path.shrink * sample_ddim(
        denoise,
        x,
        path.sigmas,
        eta=case["eta"],
        noise=lambda step: seeded.seeded_normal(f"{name}/noise/{step}", case["shape"]),
        scales=path.scales,
    )
    expected = seeded.expected(case)
    assert denoise.visited == pytest.approx(case["timesteps"], abs=1e-6)
    # Looser: in float32 the reference's first stochastic step keeps 2.4e-4 of a noise whose true share is 0.
    torch.testing.assert_close(denoise.shown[1], expected["after_step_0"], rtol=0, atol=1e-3)
    torch.testing.assert_close(denoise.shown[26], expected["after_step_25"], rtol=0, atol=5e-5)
    torch.testing.assert_close(result, expected["output"], rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("base", "steps", "scale"), [(0.3, 50, 0.967), (0.3, 20, 0.914), (0.7, 50, 0.986), (0.7, 20, 0.963)]
)
def test_reference_end_shrinks_by_the_scale_of_the_last_step(base: float, steps: int, scale: float) -> None:
    schedule = Schedule(ScheduleConfig(zero_terminal_snr=True, rescale_base=base))
    shrink = reference_trajectory(schedule, steps, "trailing").shrink
    assert shrink / schedule.alpha_bar[0].sqrt().item() == pytest.approx(scale, abs=5e-4)


def test_reference_path_differs_from_ours_only_at_its_end() -> None:
    schedule = Schedule(ScheduleConfig(rescale_base=0.7))
    path = reference_trajectory(schedule, 20, "uniform", end_scale=1.0)
    torch.testing.assert_close(path.sigmas[:-1], schedule.sigmas(20, "uniform")[:-1])
    torch.testing.assert_close(path.scales[:-1], schedule.scale_at(path.sigmas)[:-1], rtol=1e-12, atol=0)
    assert path.sigmas[-1].item() == pytest.approx(schedule.sigma_min)
    assert path.shrink == pytest.approx(schedule.alpha_bar[0].item() ** 0.5)


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_the_reference_end_can_be_put_on_given_sigmas(zero_terminal_snr: bool) -> None:
    schedule = Schedule(ScheduleConfig(zero_terminal_snr=zero_terminal_snr, rescale_base=0.3))
    expected = reference_trajectory(schedule, 20, "trailing")
    given = with_reference_end(schedule, schedule.sigmas(20, "trailing"))
    # The start differs under zero terminal SNR, where ours is finite.
    torch.testing.assert_close(given.sigmas[1:], expected.sigmas[1:])
    torch.testing.assert_close(given.scales, expected.scales)
    assert given.shrink == pytest.approx(expected.shrink)
