"""Double-condition guidance as a guider of the host, for every model that takes conditioning."""

from dataclasses import replace
from typing import Any

import comfy.sample
import comfy.samplers
import latent_preview
import node_helpers
from torch import Tensor

from ...i2v_core.diffusion.guidance import DualGuidance, DualGuidanceWeights, progress_at
from .model import FRAMES, IMAGE_LATENT
from .rescale import rescale

FULL, SINGLE, NULL = "positive", "middle", "negative"  # the host knows the first and last by these names


class DualGuider(comfy.samplers.CFGGuider):
    """Guide by text and image apart; what the host does around guidance, it does around this one.

    Args:
        model: the host's patcher.
        guidance: scales, order and rescale.
        full, single, null: conditionings with text and image, with the one that comes first, and with neither.

    Raises ValueError for conditionings that were made for videos of different sizes.
    """

    def __init__(self, model: Any, guidance: DualGuidance, full: list[Any], single: list[Any], null: list[Any]) -> None:
        super().__init__(model)
        self.guidance = guidance
        check_sizes(full, single, null)
        # Models that treat a negative prompt in another way than a positive one ask for this.
        prompt_type = FULL if guidance.order == "text_first" else NULL
        single = node_helpers.conditioning_set_values(single, {"prompt_type": prompt_type})
        self.inner_set_conds({FULL: full, SINGLE: single, NULL: null})

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        """The guided clean estimate at state x."""
        options = model_options or {}
        sigmas = options["transformer_options"]["sample_sigmas"]
        weights = self.guidance.at(progress_at(timestep.max(), sigmas))
        every = self._all_needed(options)
        # The two that hooks of ordinary guidance look for come first.
        named = [self.conds[name] for name in (FULL, NULL, SINGLE)]
        full_used, single_used, null_used = weights.needed
        used = (full_used or every, null_used or every, single_used or every)
        conds = [conditions if each else None for conditions, each in zip(named, used, strict=True)]
        scale = 1 - weights.null
        full, null, single = self._predictions(conds, scale, x, timestep, options)
        guided = self._combine(weights, full, single, null, x, timestep, options)
        # The fullest prediction that has weight, as in the core.
        name, reference = (FULL, full) if full_used else (SINGLE, single) if single_used else (NULL, null)
        guided = rescale(self.inner_model, guided, reference, self.conds[name], x, timestep, self.guidance.rescale)
        for hook in options.get("sampler_post_cfg_function", []):
            guided = hook(
                {
                    "denoised": guided,
                    "cond": self.conds[FULL],
                    "uncond": self.conds[NULL],
                    "cond_scale": scale,
                    "model": self.inner_model,
                    "uncond_denoised": null if used[1] else reference,
                    "cond_denoised": reference,
                    "sigma": timestep,
                    "model_options": options,
                    "input": x,
                }
            )
        return guided

    @staticmethod
    def _all_needed(options: dict[str, Any]) -> bool:
        # Some hooks look at the predictions of passes that have no weight, and a guidance function replaces our sum.
        return bool(options.get("disable_cfg1_optimization")) or "sampler_cfg_function" in options

    def _predictions(
        self, conds: list[Any], scale: float, x: Tensor, timestep: Tensor, options: dict[str, Any]
    ) -> list[Tensor]:
        """Clean estimates of the conditions, after the host's pre-guidance hooks."""
        shared = {"conds": conds, "input": x, "sigma": timestep, "model": self.inner_model, "model_options": options}
        if (replaced := options.get("sampler_calc_cond_batch_function")) is not None:
            found = replaced(shared)
        else:
            found = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)
        for hook in options.get("sampler_pre_cfg_function", []):
            changed = list(hook({**shared, "conds_out": found, "cond_scale": scale, "timestep": timestep}))
            # Hooks of ordinary guidance return two.
            found = [*changed, *found[len(changed) :]]
        return found

    def _combine(
        self,
        weights: DualGuidanceWeights,
        full: Tensor,
        single: Tensor,
        null: Tensor,
        x: Tensor,
        timestep: Tensor,
        options: dict[str, Any],
    ) -> Tensor:
        """The weighted sum; another node's guidance function takes its first step, as in the host's own dual guider."""
        if (replaced := options.get("sampler_cfg_function")) is None:
            return replace(weights, rescale=0.0).combine(full, single, null)
        first = x - replaced(
            {
                "cond": x - single,
                "uncond": x - null,
                "cond_scale": 1 - weights.null,
                "timestep": timestep,
                "input": x,
                "sigma": timestep,
                "cond_denoised": single,
                "uncond_denoised": null,
                "model": self.inner_model,
                "model_options": options,
                "input_cond": self.conds[SINGLE],
                "input_uncond": self.conds[NULL],
            }
        )
        return first + weights.full * (full - single)


def check_sizes(*conditionings: list[Any]) -> None:
    """Refuse conditionings that were made for videos of different sizes or lengths."""
    for key, what in (
        (IMAGE_LATENT, "given images' latents of different shapes"),
        (FRAMES, "different numbers of frames"),
    ):
        values = [entry[1][key] for conditioning in conditionings for entry in conditioning if key in entry[1]]
        sizes = {tuple(value.shape) if isinstance(value, Tensor) else value for value in values}
        if len(sizes) > 1:
            found = ", ".join(str(size) for size in sorted(sizes))
            raise ValueError(
                f"The conditions have {what} ({found}): make them with the same width, height and frames, and the "
                "same VAE."
            )


def sample_guided(
    guider: DualGuider, latent: dict[str, Any], seed: int, steps: int, sampler: str, scheduler: str
) -> dict[str, Any]:
    """Sample a LATENT from noise of a seed, with the host's sampler, previews, progress and cancel."""
    model, samples = guider.model_patcher, latent["samples"]
    samples = comfy.sample.fix_empty_latent_channels(model, samples)
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    device = model.load_device
    sigmas = comfy.samplers.KSampler(model, steps, device, sampler=sampler, scheduler=scheduler, denoise=1.0).sigmas
    sampled = guider.sample(
        noise,
        samples,
        comfy.samplers.sampler_object(sampler),
        sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        seed=seed,
    )
    return {**latent, "samples": sampled.to(samples.device)}


def sampler_names() -> tuple[list[str], list[str]]:
    """The host's samplers and schedulers."""
    return list(comfy.samplers.SAMPLER_NAMES), list(comfy.samplers.SCHEDULER_NAMES)
