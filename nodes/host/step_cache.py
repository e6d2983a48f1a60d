"""Step caching on a model of the host: every sampling run has a cache of its own."""

import logging
from typing import Any

from comfy.patcher_extension import WrappersMP

from ...i2v_core.model.step_cache import StepCache, StepCacheConfig
from .network import STEP_CACHE, HostVideoUNet


def apply_step_cache(model: Any, config: StepCacheConfig) -> Any:
    """A copy of the model whose sampling runs reuse deep features.

    Raises ValueError for models that Load I2V Checkpoint did not make.
    """
    network = model.model.diffusion_model
    if not isinstance(network, HostVideoUNet):
        raise ValueError(
            f"Step caching works on the models of Load I2V Checkpoint; this one is a {type(network).__name__}."
        )
    if config.outer >= len(network.input_blocks):
        raise ValueError(f"outer_blocks must be below this model's {len(network.input_blocks)}, got {config.outer}.")
    patched = model.clone()

    def around_run(executor: Any, *arguments: Any, **named: Any) -> Any:
        options = executor.class_obj.model_options.setdefault("transformer_options", {})
        options[STEP_CACHE] = cache = StepCache(config)
        try:
            return executor(*arguments, **named)
        finally:
            options.pop(STEP_CACHE, None)
            total = cache.reused + cache.computed
            logging.getLogger(__name__).info("step caching left out the deep blocks in %d of %d", cache.reused, total)

    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, STEP_CACHE, around_run)
    return patched
