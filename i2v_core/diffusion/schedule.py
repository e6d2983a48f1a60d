"""Noise schedules of latent video diffusion: DynamiCrafter (arXiv:2310.12190), VideoCrafter, ModelScope.

Sampling runs in sigma space, `y = x0 + sigma n`. Dynamic rescale trains on `s(t) x0` instead of `x0`; that is
the same process under `sigma(t) = sqrt((1 - alpha_bar) / alpha_bar) / s(t)`: a schedule, never a latent.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

BetaSchedule = Literal["scaled_linear", "linear"]
Spacing = Literal["uniform", "trailing"]
Betas = Literal["base", "linear"]

# A sigma of infinity cannot be sampled; ComfyUI puts this signal level (sigma 4518.8) in place of zero.
TERMINAL_ALPHA_BAR = 4.8973451890853435e-08
NEARLY_INFINITE_SIGMA = 1e8
RESCALE_TURNING_STEP = 400


@dataclass(frozen=True)
class ScheduleConfig:
    """The noise schedule that a checkpoint was trained with; the defaults are Stable Diffusion's.

    `linear` is linear in beta (TRIP: 1e-4 to 2e-2), `scaled_linear` in its square root. `rescale_base` is
    where the dynamic rescale ends (DynamiCrafter: 0.7 at 512, 0.3 at 1024), None for none.

    Raises ValueError for a value outside its range.
    """

    timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: BetaSchedule = "scaled_linear"
    zero_terminal_snr: bool = False
    rescale_base: float | None = None

    def __post_init__(self) -> None:
        if self.timesteps < 2:
            raise ValueError(f"timesteps must be at least 2, got {self.timesteps}")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(f"betas need 0 < beta_start <= beta_end < 1, got {self.beta_start} and {self.beta_end}")
        if self.beta_schedule not in get_args(BetaSchedule):
            raise ValueError(f"beta_schedule must be one of {get_args(BetaSchedule)}, got {self.beta_schedule!r}")
        if self.rescale_base is not None and not 0 < self.rescale_base <= 1:
            raise ValueError(f"rescale_base must be in (0, 1] or None, got {self.rescale_base}")


def with_betas(config: ScheduleConfig, betas: Betas) -> ScheduleConfig:
    """A schedule with other betas: `linear` are TRIP's (arXiv:2403.17005, section 4.1), `base` its own."""
    if betas == "base":
        return config
    return replace(config, beta_schedule="linear", beta_start=1e-4, beta_end=2e-2)


def alphas_cumprod(config: ScheduleConfig) -> Tensor:
    """Return the cumulative signal level `T` in float64, exactly 0 at the end under zero terminal SNR.

    Zero terminal SNR is Algorithm 1 of Lin et al., arXiv:2305.08891.
    """
    power = 0.5 if config.beta_schedule == "scaled_linear" else 1.0
    ends = config.beta_start**power, config.beta_end**power
    betas = torch.linspace(*ends, config.timesteps, dtype=torch.float64) ** (1 / power)
    alpha_bar = torch.cumprod(1 - betas, dim=0)
    if config.zero_terminal_snr:
        root = alpha_bar.sqrt()
        alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return alpha_bar


def signal_scale(config: ScheduleConfig) -> Tensor:
    """Return the dynamic rescale s(t), `T` in float64: 1 down to the base in 400 timesteps, then the base."""
    base = 1.0 if config.rescale_base is None else config.rescale_base
    scale = torch.full((config.timesteps,), base, dtype=torch.float64)
    turning = min(RESCALE_TURNING_STEP, config.timesteps)
    scale[:turning] = torch.linspace(1, base, RESCALE_TURNING_STEP, dtype=torch.float64)[:turning]
    return scale


@dataclass(frozen=True)
class Schedule:
    """A noise schedule as tables `T` over integer timesteps (float64, CPU) and as functions between them.

    Functions of a tensor answer with its shape, on its device, in its dtype but at least float32.
    """

    config: ScheduleConfig = ScheduleConfig()

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Signal level `T` in (0, 1), the zero of zero terminal SNR replaced so that sigma stays finite."""
        alpha_bar = alphas_cumprod(self.config)
        if self.config.zero_terminal_snr:
            # Below its neighbor even in tables so long that the usual constant is not.
            alpha_bar[-1] = min(TERMINAL_ALPHA_BAR, alpha_bar[-2].item() / 4)
        return alpha_bar

    @cached_property
    def scale(self) -> Tensor:
        """Dynamic rescale s(t), `T` in (0, 1]."""
        return signal_scale(self.config)

    @cached_property
    def sigma(self) -> Tensor:
        """Noise level `T` in sigma space, ascending."""
        return ((1 - self.alpha_bar) / self.alpha_bar).sqrt() / self.scale

    @property
    def sigma_min(self) -> float:
        return self.sigma[0].item()

    @property
    def sigma_max(self) -> float:
        return self.sigma[-1].item()

    def timestep(self, sigma: Tensor) -> Tensor:
        """Return the timestep of each sigma, linear in log sigma between entries and held at both ends."""
        return _in_kind(self._timestep(_exact(sigma)), sigma)

    def sigma_at(self, timestep: Tensor) -> Tensor:
        """Return the sigma of each timestep, the inverse of `timestep`."""
        return _in_kind(_interpolate(_exact(timestep), self._index, self.sigma.log()).exp(), timestep)

    def scale_at(self, sigma: Tensor) -> Tensor:
        """Return s at each sigma; 1 at sigma 0."""
        return _in_kind(self._scale_at(_exact(sigma)), sigma)

    def alpha_bar_at(self, sigma: Tensor) -> Tensor:
        """Return the signal level at each sigma; 1 at sigma 0."""
        exact = _exact(sigma)
        return _in_kind(1 / (1 + (exact * self._scale_at(exact)) ** 2), sigma)

    def timesteps(self, steps: int, spacing: Spacing) -> list[int]:
        """Return the timesteps to visit, descending; see `spaced_timesteps`."""
        return spaced_timesteps(self.config.timesteps, steps, spacing)

    def sigmas(self, steps: int, spacing: Spacing) -> Tensor:
        """Return the sigmas to visit, descending, `n + 1` in float64, the last one 0."""
        return torch.cat([self.sigma[self.timesteps(steps, spacing)], torch.zeros(1, dtype=torch.float64)])

    @cached_property
    def _index(self) -> Tensor:
        return torch.arange(self.config.timesteps, dtype=torch.float64)

    def _timestep(self, exact: Tensor) -> Tensor:
        return _interpolate(exact.log(), self.sigma.log(), self._index)

    def _scale_at(self, exact: Tensor) -> Tensor:
        return _interpolate(self._timestep(exact), self._index, self.scale)


def spaced_timesteps(total: int, steps: int, spacing: Spacing) -> list[int]:
    """Return the timesteps to visit out of `0 .. total - 1`, descending.

    `uniform` is 1, 1 + c, ... with c = total // steps and so may hold more than asked for (31 for 30 of 1000);
    `trailing` starts at the last timestep, as zero terminal SNR requires.

    Raises ValueError for an unknown spacing or for steps outside 1..total.
    """
    if not 1 <= steps <= total:
        raise ValueError(f"steps must be between 1 and {total}, got {steps}")
    if spacing == "uniform":
        return list(range(1, total, total // steps))[::-1]
    if spacing == "trailing":
        # The difference that numpy.arange steps by: it decides which way halves round (48 steps).
        stride = (total - total / steps) - total
        return [round(total + i * stride) - 1 for i in range(steps)]
    raise ValueError(f"spacing must be one of {get_args(Spacing)}, got {spacing!r}")


class Trajectory(NamedTuple):
    """Sigmas `n + 1` and the scale at each, float64; `shrink` multiplies the sampler's result."""

    sigmas: Tensor
    scales: Tensor
    shrink: float


def reference_trajectory(
    schedule: Schedule, steps: int, spacing: Spacing, *, end_scale: float | None = None
) -> Trajectory:
    """Return the path of the reference DDIM loop, for parity only: `Schedule.sigmas` repairs it.

    That loop never reaches sigma 0. It ends at alpha_bar[0] with a wrong scale and hands out the noised
    latent as the clean one, which washes out contrast (factor 0.914 for DynamiCrafter 1024 at 20 steps).

    Args:
        end_scale: s at the end; None for that of the last visited timestep (DynamiCrafter); VideoCrafter: 1.
    """
    visited = schedule.timesteps(steps, spacing)
    alpha_bar = alphas_cumprod(schedule.config)[[*visited, 0]]
    scales = schedule.scale[[*visited, visited[-1]]]
    if end_scale is not None:
        scales[-1] = end_scale
    # That loop starts at a signal of exactly zero; eta 1 can tell it from the finite start of `Schedule`.
    sigmas = ((1 - alpha_bar) / alpha_bar).sqrt().clamp(max=NEARLY_INFINITE_SIGMA) / scales
    return Trajectory(sigmas, scales, (alpha_bar[-1].sqrt() * scales[-1]).item())


def with_reference_end(schedule: Schedule, sigmas: Tensor) -> Trajectory:
    """Return given sigmas, whose last is 0, with the end of `reference_trajectory` (DynamiCrafter), for parity only."""
    scales = schedule.scale_at(sigmas)
    scales[-1] = scales[-2]
    ends = sigmas.clone()
    ends[-1] = schedule.sigma_min * schedule.scale[0].item() / scales[-1]
    return Trajectory(ends, scales, (schedule.alpha_bar[0].sqrt() * scales[-1]).item())


def _exact(value: Tensor) -> Tensor:
    # To the CPU before to float64: the GPUs of Apple machines do not have it.
    return value.detach().cpu().double().contiguous()


def _in_kind(result: Tensor, like: Tensor) -> Tensor:
    return result.to(torch.promote_types(like.dtype, torch.float32)).to(like.device)


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    right = torch.searchsorted(xs, x).clamp(1, len(xs) - 1)
    weight = ((x - xs[right - 1]) / (xs[right] - xs[right - 1])).clamp(0, 1)
    return torch.lerp(ys[right - 1], ys[right], weight)
