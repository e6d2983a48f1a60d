"""Image retention beside a model of the host: its branch runs within the network call, on each condition's image."""

import logging
from collections.abc import Callable
from typing import Any

import comfy.conds
import node_helpers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...i2v_core.model.image_retention import ImageRetention
from ..convert import pictures_to_core
from ..sockets import GivenAdapter
from .adapters import attach, require_kind
from .network import clip_inputs
from .sampling import in_range

KIND = "image_retention"
PIXELS, HINT = "i2v_image_pixels", "i2v_image_hint"
MODELS = f"i2v_{KIND}"

logger = logging.getLogger(__name__)


class ClipCondition(comfy.conds.CONDRegular):
    """A condition of a whole clip, which the host's usual ones would repeat for every frame."""

    def process_cond(self, batch_size: int, **_: Any) -> "ClipCondition":
        return self


def with_pixels(conditioning: list[Any], pixels: Tensor | None) -> list[Any]:
    """Copy a CONDITIONING and add the picture that image retention is to see, `1 h w 3` in [0, 1]."""
    return conditioning if pixels is None else node_helpers.conditioning_set_values(conditioning, {PIXELS: pixels})


def apply_image_retention(model: Any, adapter: GivenAdapter, strength: float, start: float, end: float) -> Any:
    """A copy of the model with the branch beside it, which runs from the share `start` of the noise to `end`.

    Raises ValueError for an adapter of another method or base, and for a model that has a branch already.
    """
    require_kind(adapter, KIND)
    if getattr(model.model, "video_unet", None) != adapter.contents.config.unet:
        raise ValueError(
            f"'{adapter.name}' was trained beside another base: connect the model that its page names, loaded with "
            "Load I2V Checkpoint."
        )
    if model.get_additional_models_with_key(MODELS):
        raise ValueError("This model has an image retention branch already: apply one adapter of this kind only.")
    patched, branch = attach(model, adapter)
    sampling = patched.get_model_object("model_sampling")
    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KIND, find_hints(branch))
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KIND, retain(branch, strength, sampling, start, end))
    return patched


def find_hints(branch: ImageRetention) -> Callable[..., Any]:
    """A wrapper of one sampling that shows the branch the image of every condition, once."""

    def wrapper(
        executor: Any, guider: Any, sigmas: Tensor, extra: Any, callback: Any, noise: Tensor, *rest: Any
    ) -> Any:
        hints: dict[int, Tensor] = {}
        for name, conditions in guider.conds.items():
            for condition in conditions:
                pixels = condition.get(PIXELS)
                if pixels is None:
                    logger.warning("image retention: '%s' has no image; a white one, which means none, is used", name)
                    pixels = _white(branch, noise)
                if id(pixels) not in hints:
                    hints[id(pixels)] = branch.hint(pictures_to_core(pixels).to(guider.model_patcher.load_device))
                condition["model_conds"][HINT] = ClipCondition(hints[id(pixels)])
        return executor(guider, sigmas, extra, callback, noise, *rest)

    return wrapper


def retain(branch: ImageRetention, strength: float, sampling: Any, start: float, end: float) -> Callable[..., Tensor]:
    """A wrapper of the network that adds what the branch finds, in a part of the sampling."""

    def wrapper(
        executor: Any,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None,
        control: Any,
        options: dict[str, Any],
        **conditions: Any,
    ) -> Tensor:
        hint = conditions.pop(HINT, None)
        if hint is None:
            raise ValueError("Image retention runs in the host's samplers only: this one calls the network by itself.")
        if not in_range(sampling, options["sigmas"], start, end):
            return executor(x, timesteps, context, y, control, options, **conditions)
        given = clip_inputs(x, timesteps, context, y, options, **conditions)
        hint = hint.repeat_interleave(len(given["x"]) // len(hint), dim=0)
        retained = branch(**given, hint=hint.to(x), strength=strength)
        return executor(x, timesteps, context, y, control, options, **conditions, retained=retained)

    return wrapper


def _white(branch: ImageRetention, noise: Tensor) -> Tensor:
    height, width = (side * branch.config.downscale for side in noise.shape[-2:])
    return torch.ones(1, height, width, 3)
