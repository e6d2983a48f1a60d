"""Guidance rescale on the raw prediction of any model of the host: the one place, for the node and the guider."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...i2v_core.diffusion.guidance import rescale_to
from ..convert import clips_to_rows, rows_to_clips
from .model import VideoModel

Guided = Callable[[dict[str, Any]], Tensor]


def with_guidance_rescale(model: Any, amount: float) -> Any:
    """Copy a MODEL and rescale its predictions after guidance."""
    copy = model.clone()

    def after_guidance(args: dict[str, Any]) -> Tensor:
        if args["uncond_denoised"] is None:
            return args["denoised"]
        estimates = args["denoised"], args["cond_denoised"]
        return rescale(args["model"], *estimates, args.get("cond") or [], args["input"], args["sigma"], amount)

    copy.set_model_sampler_post_cfg_function(after_guidance)
    return copy


def rescale(
    model: Any, guided: Tensor, reference: Tensor, conditions: list[Any], x: Tensor, sigma: Tensor, amount: float
) -> Tensor:
    """Bring the standard deviation of a guided estimate's raw prediction to that of another one.

    Args:
        model: the host's base model.
        guided, reference: clean estimates at the state `x` and its sigma.
        conditions: processed by the host, of the reference.
        amount: as of `rescale_to`; the standard deviation is that of each whole clip.
    """
    if amount == 0 or guided is reference:
        return guided
    origin = model.reference_latent(conditions) if isinstance(model, VideoModel) else 0.0
    # Every parametrization is a line in the network's output: the estimate that no output gives, and one's step.
    zero = model.model_sampling.calculate_denoised(sigma, torch.zeros_like(x), x - origin)
    step = model.model_sampling.calculate_denoised(sigma, torch.ones_like(x), torch.zeros_like(x))
    raw, wanted = ((estimate - origin - zero) / step for estimate in (guided, reference))
    if x.ndim == 5:
        return zero + step * rescale_to(raw, wanted, amount) + origin
    told = conditions[0]["model_conds"].get("num_video_frames") if conditions else None
    frames = 1 if told is None else told.cond
    clips = rescale_to(rows_to_clips(raw, frames), rows_to_clips(wanted, frames), amount)
    return zero + step * clips_to_rows(clips) + origin
