"""DynamiCrafter's image projection on a model that was made without one."""

from typing import Any

from comfy_api.latest import io

from .host.image_projection import apply_image_projection, load_adapter_projection
from .sockets import AdapterSocket, GivenAdapter, ImageProjectionSocket
from .widgets import search_aliases


class I2VApplyImageProjection(io.ComfyNode):
    """Let a model's cross-attentions see the given image beside the text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VApplyImageProjection",
            display_name="Apply Image Projection",
            category="I2V Diffusion/model",
            **search_aliases("dynamicrafter", "dual cross-attention", "image tokens", "ip-adapter"),
            description="DynamiCrafter's image projection for a model that was made without one: every spatial "
            "cross-attention sees tokens of the given image beside those of the text. Connect image_projection to "
            "Encode Image for I2V, which makes the tokens.",
            inputs=[
                io.Model.Input("model", tooltip="The model that the adapter was trained on, from Load I2V Checkpoint."),
                AdapterSocket.Input("adapter", tooltip="An image projection adapter, from Load I2V Adapter."),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For any sampler, guider or further Apply node."),
                ImageProjectionSocket.Output(
                    display_name="image_projection",
                    tooltip="For Encode Image for I2V. It brings its own small image encoder if the adapter has one; "
                    "otherwise that node needs clip_vision too.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model: Any, adapter: GivenAdapter) -> io.NodeOutput:
        return io.NodeOutput(apply_image_projection(model, adapter), load_adapter_projection(adapter))
