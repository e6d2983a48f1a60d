"""A checkpoint's schedule and prediction in the host's terms, computed by the core."""

from typing import Any

import comfy.model_sampling
import torch
from torch import Tensor

from ...i2v_core.diffusion.prediction import Prediction, network_input, to_denoised
from ...i2v_core.diffusion.schedule import Schedule, ScheduleConfig


class ClipSampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    """The noise levels between the host's samplers and the network, dynamic rescale included."""

    def __init__(self, model_config: Any, schedule: ScheduleConfig, prediction: Prediction) -> None:
        super().__init__(model_config)
        self.schedule, self.prediction = Schedule(schedule), prediction
        self.set_sigmas(self.schedule.sigma)

    def set_sigmas(self, sigmas: Tensor) -> None:
        # No buffers: the host backs those up by name and restores them into whatever replaced this object.
        self.sigmas, self.log_sigmas = sigmas.float(), sigmas.log().float()

    def timestep(self, sigma: Tensor) -> Tensor:
        return self.schedule.timestep(sigma)

    def sigma(self, timestep: Tensor) -> Tensor:
        return self.schedule.sigma_at(timestep)

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        return network_input(noise, sigma, self.schedule.scale_at(sigma))

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        scale = self.schedule.scale_at(sigma)
        return to_denoised(self.prediction, model_output, model_input, sigma, scale)

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        """Noise of unit variance and a clean latent `t c h w` to the state at sigma."""
        level = sigma
        if max_denoise:
            # The network then sees noise of exactly unit variance, as at the end of its training.
            level = 1 / network_input(torch.ones_like(sigma), sigma, self.schedule.scale_at(sigma))
        return latent_image + noise * level


def in_range(sampling: Any, sigmas: Tensor | None, start_percent: float, end_percent: float) -> bool:
    """A noise level lies in this part of the sampling, as the host's nodes count it; None always does."""
    if sigmas is None:
        return True
    sigma = sigmas.max().item()
    return sampling.percent_to_sigma(end_percent) <= sigma <= sampling.percent_to_sigma(start_percent)
