"""Nodes that load what a method adds to a model."""

from comfy_api.latest import io

from ..i2v_core.weights import read_adapter
from .host.folders import adapter_names, adapter_path
from .sockets import AdapterSocket, GivenAdapter
from .widgets import search_aliases


class I2VLoadAdapter(io.ComfyNode):
    """Load an adapter of one of the methods."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VLoadAdapter",
            display_name="Load I2V Adapter",
            category="I2V Diffusion/loaders",
            **search_aliases("look-back", "trip", "dreamvideo", "motion module"),
            description="Loads what look-back, TRIP, image retention or an image projection add to a model, for "
            "their Apply nodes. The kind is read from the file, never from its name.",
            inputs=[
                io.Combo.Input(
                    "adapter",
                    options=adapter_names(),
                    tooltip="A file in models/model_patches, or one of the demo adapters.",
                ),
            ],
            outputs=[AdapterSocket.Output(display_name="adapter", tooltip="For the Apply node of its method.")],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter: str) -> tuple[int, int]:
        # A file that was trained further under the same name is loaded again.
        status = adapter_path(adapter).stat()
        return status.st_mtime_ns, status.st_size

    @classmethod
    def execute(cls, adapter: str) -> io.NodeOutput:
        return io.NodeOutput(GivenAdapter(read_adapter(adapter_path(adapter)), adapter))
