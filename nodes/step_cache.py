"""Step caching, which trades a bounded error for time."""

from typing import Any

from comfy_api.latest import io

from ..i2v_core.model.step_cache import StepCacheConfig
from .host.step_cache import apply_step_cache
from .widgets import advanced, search_aliases


class I2VStepCache(io.ComfyNode):
    """Leave out deep blocks at steps where little changes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VStepCache",
            display_name="Step Cache",
            category="I2V Diffusion/model",
            **search_aliases("deepcache", "teacache", "first block cache", "faster", "speed"),
            description="Samples faster at a small loss: while the network's first blocks change little from step to "
            "step, what its deep blocks answered is used again.",
            inputs=[
                io.Model.Input("model", tooltip="From Load I2V Checkpoint, with adapters or without."),
                io.Float.Input(
                    "bound",
                    default=0.2,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="How far the first blocks' output may change, relatively and summed up over the steps, "
                    "before everything is computed anew. 0 is off; higher is faster and less exact.",
                ),
                advanced(
                    io.Int.Input(
                        "outer_blocks",
                        default=1,
                        min=1,
                        max=6,
                        tooltip="How many of the first and of the last blocks are computed at every step. More is "
                        "slower and more exact.",
                    )
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For any sampler or guider.")],
        )

    @classmethod
    def execute(cls, model: Any, bound: float, outer_blocks: int = 1) -> io.NodeOutput:
        if bound == 0:
            return io.NodeOutput(model)
        return io.NodeOutput(apply_step_cache(model, StepCacheConfig(bound, outer_blocks)))
