"""Image retention beside a model of the host: its branch runs within the network call, on each condition's image."""

import logging
from collections.abc import Callable
from typing import Any

import comfy.conds
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...i2v_core.conditions import white
from ...i2v_core.methods import ImageRetentionMethod
from ...i2v_core.model.image_retention import ImageRetention
from ..convert import pictures_to_core
from ..sockets import GivenAdapter
from .adapters import attach, check_method, require_kind
from .network import HostVideoUNet, method_wrapper
from .sampling import in_range

KIND = "image_retention"
PIXELS, HINT = "i2v_image_pixels", "i2v_image_hint"
MODELS = f"i2v_{KIND}"
NO_HINT = "Image retention runs in the host's samplers only: this one calls the network by itself."

logger = logging.getLogger(__name__)


class ClipCondition(comfy.conds.CONDRegular):
    """A condition of a whole clip, which the host's usual ones would repeat for every frame."""

    def process_cond(self, batch_size: int, **_: Any) -> "ClipCondition":
        return self


def apply_image_retention(model: Any, adapter: GivenAdapter, strength: float, start: float, end: float) -> Any:
    """A copy of the model with the branch beside it, which runs from the share `start` of the noise to `end`.

    Raises ValueError for an adapter of another method or base, and for a model that has a branch already.
    """
    require_kind(adapter, KIND)
    unet = model.model.diffusion_model
    if not isinstance(unet, HostVideoUNet):
        raise ValueError(
            f"Image retention needs a model of Load I2V Checkpoint, got a {type(model.model).__name__}: load it there."
        )
    if model.get_additional_models_with_key(MODELS):
        raise ValueError("This model has an image retention branch already: apply one adapter of this kind only.")
    patched, branch = attach(model, adapter)
    method, sampling = ImageRetentionMethod(branch, strength), patched.get_model_object("model_sampling")
    check_method(method, unet, adapter.name)
    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KIND, find_hints(branch))
    wrapper = method_wrapper(
        method, "image_hint", NO_HINT, lambda options: in_range(sampling, options["sigmas"], start, end)
    )
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KIND, wrapper)
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


def _white(branch: ImageRetention, noise: Tensor) -> Tensor:
    height, width = (side * branch.config.downscale for side in noise.shape[-2:])
    return white(torch.empty(1, height, width, 3))
