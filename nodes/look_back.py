"""Look-back on the host's models: a text-to-image model becomes a video model."""

from typing import Any, Literal

from comfy_api.latest import io

from ..i2v_core.conditions import GivenImage
from ..i2v_core.diffusion.initialization import InitializationName
from .host.look_back import apply_look_back
from .sockets import AdapterSocket, GivenAdapter, GivenImageSocket
from .widgets import advanced, search_aliases


class I2VApplyLookBack(io.ComfyNode):
    """Let every frame look back at the ones before it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        initialization = advanced(
            io.Combo.Input(
                "initialization",
                options=["hybrid", "add_noise", "inversion", "auto"],
                default="auto",
                tooltip="What the model sees of the given image: the clean image at every step (hybrid), the image "
                "with as much noise as the other frames, or the image led back to noise by DDIM inversion. auto takes "
                "what the adapter was trained with.",
            )
        )
        return io.Schema(
            node_id="I2VApplyLookBack",
            display_name="Apply Look-Back",
            category="I2V Diffusion/model",
            **search_aliases("look back", "motion module", "animatediff", "long video"),
            description="Makes a video model of an image model such as Stable Diffusion 1.5, at a cost linear in the "
            "number of frames. Works with any sampler, LoRA, ControlNet and IP-Adapter.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="Stable Diffusion 1.5 or 2.1 from any loader, or a model of Load I2V Checkpoint."
                ),
                AdapterSocket.Input("adapter", tooltip="A look-back adapter from Load I2V Adapter."),
                GivenImageSocket.Input(
                    "i2v_image", tooltip="The first frame, from Encode Image for I2V, in the size of the video."
                ),
                initialization,
                io.Int.Input(
                    "frames_at_once",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="Long videos: make so many frames at a time and carry look-back's memory on, so that the "
                    "memory needed does not grow with the length. 0 makes all frames at once.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="For any sampler; the frames are the batch of its latent, from Video Latent.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        adapter: GivenAdapter,
        i2v_image: GivenImage,
        initialization: InitializationName | Literal["auto"] = "auto",
        frames_at_once: int = 0,
    ) -> io.NodeOutput:
        return io.NodeOutput(apply_look_back(model, adapter, i2v_image.latent, initialization, frames_at_once))
