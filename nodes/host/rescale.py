"""Guidance rescale on the raw prediction of any eps or v model of the host."""

from collections.abc import Callable
from typing import Any

import comfy.model_sampling
import torch
from torch import Tensor

from ...i2v_core.diffusion.guidance import rescale_to
from ...i2v_core.diffusion.prediction import Prediction, from_denoised, to_denoised
from ..convert import clips_to_rows, rows_to_clips
from .model import VideoModel
from .sampling import ClipSampling

Guided = Callable[[dict[str, Any]], Tensor]


def with_guidance_rescale(model: Any, amount: float) -> Any:
    """Copy a MODEL and rescale its predictions after guidance.

    Raises ValueError for a model whose raw prediction is neither eps, v nor x0.
    """
    prediction_of(model.get_model_object("model_sampling"))
    copy = model.clone()
    copy.set_model_sampler_post_cfg_function(_after_guidance(amount))
    return copy


def prediction_of(sampling: Any) -> Prediction:
    """What the network behind a model sampling of the host predicts."""
    kinds = comfy.model_sampling
    if isinstance(sampling, ClipSampling):
        return sampling.prediction
    if not isinstance(sampling, kinds.EDM | kinds.IMG_TO_IMG):
        named: tuple[tuple[type, Prediction], ...] = ((kinds.X0, "x0"), (kinds.V_PREDICTION, "v"), (kinds.EPS, "eps"))
        for kind, prediction in named:
            if isinstance(sampling, kind):
                return prediction
    raise ValueError("Guidance rescale is for models that predict noise or v, and this one does not (flow models).")


def _after_guidance(amount: float) -> Guided:
    def rescaled(args: dict[str, Any]) -> Tensor:
        guided, conditional = args["denoised"], args["cond_denoised"]
        if args["uncond_denoised"] is None or amount == 0:
            return guided
        sampling, conditions = args["model"].model_sampling, _conditions(args)
        sigma, prediction = args["sigma"].flatten()[0], prediction_of(sampling)
        scale = sampling.schedule.scale_at(sigma) if isinstance(sampling, ClipSampling) else torch.ones_like(sigma)
        origin = _origin(args["model"], conditions, guided)
        # Frames of a clip are rows of the batch: the spread is that of the whole clip.
        frames = conditions.get("num_video_frames") if guided.ndim == 4 else None
        y, guided, conditional = (_clips(rows - origin, frames) for rows in (args["input"], guided, conditional))
        raw, raw_conditional = (from_denoised(prediction, x0, y, sigma, scale) for x0 in (guided, conditional))
        result = to_denoised(prediction, rescale_to(raw, raw_conditional, amount), y, sigma, scale)
        return (result if frames is None else clips_to_rows(result)) + origin

    return rescaled


def _conditions(args: dict[str, Any]) -> dict[str, Any]:
    """What the first positive condition tells the network."""
    first = (args.get("cond") or [{}])[0]
    return {name: condition.cond for name, condition in first.get("model_conds", {}).items()}


def _origin(model: Any, conditions: dict[str, Any], like: Tensor) -> Tensor | float:
    """What the network's estimates are differences to."""
    image = conditions.get("c_concat")
    if image is None or not isinstance(model, VideoModel) or not model.preset.image_residual:
        return 0.0
    return image.to(like)


def _clips(rows: Tensor, frames: int | None) -> Tensor:
    return rows if frames is None else rows_to_clips(rows, frames)
