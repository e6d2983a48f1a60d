"""Image retention, DreamVideo's side branch, on a model."""

from typing import Any

from comfy_api.latest import io

from .host.image_retention import apply_image_retention
from .sockets import AdapterSocket, GivenAdapter
from .widgets import advanced, search_aliases, share

START = "From which share of the sampling on the branch runs; 0 is the first step."
END = "Up to which share of the sampling the branch runs; 1 is the last step."


class I2VApplyImageRetention(io.ComfyNode):
    """Let a side branch keep the given image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VApplyImageRetention",
            display_name="Apply Image Retention",
            category="I2V Diffusion/model",
            **search_aliases("dreamvideo", "reference image"),
            description="DreamVideo's image retention: a side branch sees the given image's pixels and keeps the video "
            "close to them. Every condition of the sampler has an image of its own, from I2V Conditioning.",
            inputs=[
                io.Model.Input("model", tooltip="The model that the adapter was trained beside."),
                AdapterSocket.Input("adapter", tooltip="An image retention adapter, from Load I2V Adapter."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Factor of what the branch adds. 1 as trained; 0 leaves the adapter out altogether.",
                ),
                advanced(share("start_percent", 0.0, START)),
                advanced(share("end_percent", 1.0, END)),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For any sampler or guider.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        adapter: GivenAdapter,
        strength: float,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
    ) -> io.NodeOutput:
        if start_percent > end_percent:
            raise ValueError(f"start_percent must not be after end_percent, got {start_percent} and {end_percent}.")
        if strength == 0:
            return io.NodeOutput(model)
        return io.NodeOutput(apply_image_retention(model, adapter, strength, start_percent, end_percent))
