"""SIGMAS, SAMPLER and NOISE of the host, made of the core's schedules and samplers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ...i2v_core.diffusion.analytic_noise import analytic_start
from ...i2v_core.diffusion.samplers import Noise, sample_ddim
from ...i2v_core.diffusion.schedule import Spacing, Trajectory, spaced_timesteps, with_reference_end
from .sampling import ClipSampling

ModelSpacing = Literal["auto", "trailing", "uniform"]


def spaced_sigmas(model: Any, steps: int, spacing: ModelSpacing, start_step: int) -> Tensor:
    """Noise levels `n + 1` of a MODEL at spaced timesteps below `start_step`, the last one 0.

    Raises ValueError for a model without a table of noise levels, or for more steps than timesteps.
    """
    table = getattr(model.get_model_object("model_sampling"), "sigmas", None)
    if table is None or table.ndim != 1:
        raise ValueError("This model has no table of noise levels: use BasicScheduler for it.")
    preset = getattr(model.model, "preset", None)
    chosen: Spacing = (preset.spacing if preset else "trailing") if spacing == "auto" else spacing
    visited = spaced_timesteps(min(start_step, len(table)), steps, chosen)
    return torch.cat([table[visited].cpu().float(), torch.zeros(1)])


def ddim_sampler(eta: float, reference_end: bool) -> Any:
    """A SAMPLER for `sample_ddim_rows`."""
    return comfy.samplers.KSAMPLER(sample_ddim_rows, {"eta": eta, "reference_end": reference_end})


def sample_ddim_rows(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    eta: float = 0.0,
    reference_end: bool = False,
    noise: Noise | None = None,
) -> Tensor:
    """The core's DDIM behind the host's calling convention for samplers; x is of any layout.

    Args:
        reference_end: end like the reference's loop, whose last latent is shrunk, for parity only.
        noise: fresh noise by step; None draws it from the host's seed.

    Raises:
        ValueError: the model does not predict noise, as flow models do not.
    """
    extra, state = extra_args or {}, x
    path = _trajectory(model.inner_model.model_patcher.get_model_object("model_sampling"), sigmas, reference_end)

    def denoise(y: Tensor, sigma: Tensor) -> Tensor:
        nonlocal state
        state = y
        return model(y, sigma.to(y).expand(len(y)), **extra)

    with tqdm(total=len(sigmas) - 1, disable=disable) as bar:

        def report(step: int, _: int, denoised: Tensor) -> None:
            bar.update()
            if callback is not None:
                level = path.sigmas[step]
                callback({"x": state, "i": step, "sigma": level, "sigma_hat": level, "denoised": denoised})

        fresh = noise or seeded_noise(x, extra.get("seed") or 0)
        result = sample_ddim(denoise, x, path.sigmas, eta=eta, noise=fresh, scales=path.scales, callback=report)
    return result * path.shrink


def seeded_noise(like: Tensor, seed: int) -> Noise:
    """Standard normal of one shape for one step after the other, the same on every device."""
    # One beyond the seed from which the host has drawn the initial noise.
    generator = torch.Generator().manual_seed((seed + 1) % 2**64)
    return lambda _: torch.randn(like.shape, generator=generator)


@dataclass(frozen=True)
class AnalyticNoise:
    """A NOISE with which the host starts at sigma from the core's `analytic_start`.

    `level` is what the host multiplies noise by, `mean` is None or scaled latents `t c h w`.
    """

    seed: int
    sigma: Tensor
    level: Tensor
    mean: Tensor | None
    variance: float

    @classmethod
    def of(cls, model: Any, sigmas: Tensor, seed: int, mean: Tensor | None, variance: float) -> "AnalyticNoise":
        """For a MODEL and the sigmas to sample on; the mean is a LATENT's samples."""
        sampling, sigma = model.get_model_object("model_sampling"), sigmas[0].float()
        _check_noise_prediction(sampling)
        at_the_top = sigma.item() >= float(sampling.sigma_max) * (1 - 1e-5)
        level = sampling.noise_scaling(sigma, torch.ones(()), torch.zeros(()), at_the_top)
        return cls(seed, sigma, level, None if mean is None else model.model.process_latent_in(mean), variance)

    def generate_noise(self, input_latent: dict[str, Any]) -> Tensor:
        latent = input_latent["samples"]
        noise = comfy.sample.prepare_noise(latent, self.seed, input_latent.get("batch_index"))
        if self.mean is None:
            return analytic_start(noise, self.sigma, variance=self.variance) / self.level
        if len(latent) % len(self.mean):
            raise ValueError(f"The latent has {len(latent)} frames, the mean {len(self.mean)}: make them equal.")
        clips = len(latent) // len(self.mean)
        mean = self.mean.to(noise).repeat(clips, *(1 for _ in latent.shape[1:]))
        return analytic_start(noise, self.sigma, mean, self.variance) / self.level


def _trajectory(sampling: Any, sigmas: Tensor, reference_end: bool) -> Trajectory:
    _check_noise_prediction(sampling)
    if not isinstance(sampling, ClipSampling):
        return Trajectory(sigmas, torch.ones_like(sigmas), 1.0)
    if reference_end:
        return with_reference_end(sampling.schedule, sigmas)
    return Trajectory(sigmas, sampling.schedule.scale_at(sigmas), 1.0)


def _check_noise_prediction(sampling: Any) -> None:
    if not isinstance(sampling, comfy.model_sampling.EPS):
        raise ValueError(
            "DDIM and its noise are for models that predict noise or v, and this one does not (flow models): "
            "choose a sampler with KSamplerSelect."
        )
