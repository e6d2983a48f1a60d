"""TRIP (arXiv:2403.17005): nodes that lead a video by the given image's noise."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..i2v_core.conditions import GivenImage
from .host.image_noise_prior import PriorSettings, apply_image_noise_prior
from .host.trip import AUTO, TripSettings, apply_trip
from .sockets import AdapterSocket, GivenAdapter, GivenImageSocket
from .widgets import advanced, search_aliases, share

FIRST = "Share of the image in the first frame: 1 is the image itself, 0 the model alone."
LAST = "Share of the image in the last frame; in between it changes evenly from frame to frame."
START = "Part of the sampling at which it begins, 0 being the first step."
END = "Part of the sampling at which it ends, 1 being the last step."


class I2VApplyTRIP(io.ComfyNode):
    """Give a video model TRIP's two paths."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VApplyTRIP",
            display_name="Apply TRIP",
            category="I2V Diffusion/model",
            **search_aliases("temporal residual", "temporal noise fusion", "tnf"),
            description="Puts the given image beside the noised frames and fuses the model's answer with the noise "
            "that the image stands for, so that frames stay with the image (TRIP, arXiv:2403.17005).",
            inputs=[
                io.Model.Input("model", tooltip="A video model from Load I2V Checkpoint, with or without LoRA."),
                GivenImageSocket.Input("i2v_image", tooltip="The picture to animate, from Encode Image for I2V."),
                io.Combo.Input(
                    "fusion",
                    options=["learned", "linear", "none"],
                    default="learned",
                    tooltip="How the two are merged: by the adapter's trained module, by the fixed shares below, or "
                    "not at all, which leaves the image beside the frames only.",
                ),
                share("first_lambda", 1.0, f"For fusion linear. {FIRST}"),
                share("last_lambda", 0.0, f"For fusion linear. {LAST}"),
                advanced(
                    io.Combo.Input(
                        "position",
                        options=[AUTO, "begin", "end", "channel"],
                        default=AUTO,
                        tooltip="Where the image joins: before the frames, after them, or on the channels of each. "
                        "auto is what the adapter was trained with, and begin without one.",
                    )
                ),
                advanced(share("start_percent", 0.0, START)),
                advanced(share("end_percent", 1.0, END)),
                AdapterSocket.Input(
                    "adapter",
                    optional=True,
                    tooltip="A trained TRIP adapter from Load I2V Adapter; fusion learned needs one.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with TRIP, for any sampler.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        i2v_image: GivenImage,
        fusion: str,
        first_lambda: float,
        last_lambda: float,
        position: str = AUTO,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        adapter: GivenAdapter | None = None,
    ) -> io.NodeOutput:
        settings = TripSettings(fusion, position, first_lambda, last_lambda, start_percent, end_percent)
        return io.NodeOutput(apply_trip(model, i2v_image.latent, adapter, settings))


class I2VImageNoisePrior(io.ComfyNode):
    """Lead any model by an image, without training."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VImageNoisePrior",
            display_name="Image Noise Prior",
            category="I2V Diffusion/model",
            **search_aliases("trip", "linear fusion", "first frame"),
            description="Blends every clean estimate of the sampling with an image, most in the first frame: TRIP's "
            "linear fusion, without training, for any model of ComfyUI that makes videos.",
            inputs=[
                io.Model.Input("model", tooltip="Any model: Stable Diffusion with AnimateDiff, SVD, Wan, LTX ..."),
                io.Latent.Input(
                    "image_latent",
                    tooltip="The picture from VAE Encode with the model's VAE, at the size of the video; one for all "
                    "clips or one for each.",
                ),
                share("first_lambda", 1.0, FIRST),
                share("last_lambda", 0.0, LAST),
                share("start_percent", 0.0, START),
                share("end_percent", 1.0, f"{END} Less leaves the last details to the model."),
                advanced(
                    io.Int.Input(
                        "frames",
                        default=0,
                        min=0,
                        max=4096,
                        tooltip="Frames of one clip, where a batch holds several; 0 takes the whole batch for one. "
                        "Models whose latents have an axis of frames ignore it.",
                    )
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with the prior, for any sampler.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        image_latent: dict[str, Tensor],
        first_lambda: float,
        last_lambda: float,
        start_percent: float,
        end_percent: float,
        frames: int = 0,
    ) -> io.NodeOutput:
        settings = PriorSettings(first_lambda, last_lambda, start_percent, end_percent, frames)
        return io.NodeOutput(apply_image_noise_prior(model, image_latent["samples"], settings))
