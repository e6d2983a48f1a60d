"""Nodes that prepare what the sampler needs besides the model."""

from dataclasses import replace
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..i2v_core.conditions import GivenImage, white
from ..i2v_core.video.frames import FitMode
from ..i2v_core.weights.companions.known import IMAGE_ENCODER, IMAGE_PROJECTION
from .convert import (
    empty_image_latents,
    empty_video_latent,
    fit_given_image,
    latent_size,
    pinned_video_latent,
    share_image_tokens,
)
from .host.conditioning import with_given_image
from .host.image_projection import HostImageProjection, encode_image_tokens
from .host.vae import encode_image
from .sockets import GivenImageSocket, ImageProjectionSocket
from .widgets import advanced, search_aliases


class I2VEncodeImage(io.ComfyNode):
    """Bring a picture to the video's size and encode it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VEncodeImage",
            display_name="Encode Image for I2V",
            category="I2V Diffusion/conditioning",
            **search_aliases("image to video", "img2vid", "start frame"),
            description="Brings the picture to animate to the video's size and encodes it.",
            inputs=[
                io.Vae.Input("vae", tooltip="From Load I2V Checkpoint, or the VAE that the model was trained with."),
                io.Image.Input("image", tooltip="The one picture to animate. Transparent parts become white."),
                io.Int.Input(
                    "width",
                    default=512,
                    min=8,
                    max=4096,
                    step=8,
                    tooltip="Width of the video in pixels; best the model's own: demo 64, DynamiCrafter "
                    "256, 512 or 1024.",
                ),
                io.Int.Input(
                    "height",
                    default=320,
                    min=8,
                    max=4096,
                    step=8,
                    tooltip="Height of the video in pixels; best the model's own: demo 64, DynamiCrafter "
                    "256, 320 or 576.",
                ),
                io.Combo.Input(
                    "fit",
                    options=["crop", "pad", "stretch"],
                    default="crop",
                    tooltip="How it gets that size: crop what sticks out, pad with black bars, or stretch.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="Image encoder, for models with an image projection (DynamiCrafter).",
                ),
                ImageProjectionSocket.Input(
                    "image_projection",
                    optional=True,
                    tooltip="From Load I2V Checkpoint, for models that have one, or from Apply Image Projection; goes "
                    "with clip_vision, unless it brings an image encoder of its own.",
                ),
            ],
            outputs=[
                GivenImageSocket.Output(display_name="i2v_image", tooltip="The encoded picture for I2V Conditioning."),
                io.Image.Output(
                    display_name="image", tooltip="The picture at the video's size, to look at or compare."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        vae: Any,
        image: Tensor,
        width: int,
        height: int,
        fit: FitMode,
        clip_vision: Any | None = None,
        image_projection: HostImageProjection | None = None,
    ) -> io.NodeOutput:
        sees = clip_vision is not None or (image_projection is not None and image_projection.encoder is not None)
        if sees != (image_projection is not None):
            missing = "clip_vision" if clip_vision is None else "image_projection"
            wanted = IMAGE_ENCODER.on_canvas(1280) if clip_vision is None else IMAGE_PROJECTION
            raise ValueError(
                f"Image tokens need both clip_vision and image_projection; {missing} is missing or empty: "
                f"take {wanted}."
            )
        pixels = fit_given_image(image, height, width, fit, vae.spacial_compression_encode())
        tokens, null_tokens = None, None
        if image_projection is not None:
            tokens, null_tokens = encode_image_tokens(clip_vision, image_projection, pixels)
        # Models that look at image tokens know "no image" by those.
        null = encode_image(vae, white(pixels)) if tokens is None else None
        return io.NodeOutput(GivenImage(encode_image(vae, pixels), tokens, null_tokens, pixels, null), pixels)


class I2VConditioning(io.ComfyNode):
    """Join text, given image and length of the video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        fps = advanced(
            io.Float.Input(
                "fps",
                default=0.0,
                min=0.0,
                max=240.0,
                step=1.0,
                tooltip="What the model is told about the speed: frames per second, where less means more "
                "motion, or the frame stride (DynamiCrafter 256), where more does. 0 is the model's own; models "
                "without such an input ignore it.",
            )
        )
        return io.Schema(
            node_id="I2VConditioning",
            display_name="I2V Conditioning",
            category="I2V Diffusion/conditioning",
            **search_aliases("image to video", "img2vid", "interpolate frames", "loop video"),
            description="Joins the prompts with the given image and makes the empty latent, for any sampler.",
            inputs=[
                io.Conditioning.Input("positive", tooltip="What should happen, from CLIP Text Encode."),
                io.Conditioning.Input("negative", tooltip="What should not, from CLIP Text Encode; may be empty text."),
                GivenImageSocket.Input("i2v_image", tooltip="The picture to animate, from Encode Image for I2V."),
                io.Int.Input(
                    "frames",
                    default=8,
                    min=1,
                    max=1024,
                    tooltip="Frames of the video, at least 2; best as many as the model was trained on: demo "
                    "8, DynamiCrafter 16. Others work and lose quality with the distance.",
                ),
                fps,
                GivenImageSocket.Input(
                    "end_image",
                    optional=True,
                    tooltip="The picture on the last frame, for interpolation models only. The same one as i2v_image "
                    "makes a loop, whose last frame repeats its first.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="For the sampler's positive input."),
                io.Conditioning.Output(display_name="negative", tooltip="For the sampler's negative input."),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="Empty latent with the frames as its batch; sample it with denoise 1. "
                    "Repeat Latent Batch makes several clips at once.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: list[Any],
        negative: list[Any],
        i2v_image: GivenImage,
        frames: int,
        fps: float = 0.0,
        end_image: GivenImage | None = None,
    ) -> io.NodeOutput:
        latent, told = i2v_image.latent, fps or None
        end = None if end_image is None else end_image.latent
        if end is not None and end.shape != latent.shape:
            raise ValueError(
                f"The end image's latent is {latent_size(end)}, the first one's {latent_size(latent)}: give both "
                "Encode Image for I2V nodes the same width, height and VAE."
            )
        return io.NodeOutput(
            with_given_image(positive, i2v_image, frames, told, end),
            with_given_image(negative, i2v_image.without_tokens(), frames, told, end),
            empty_video_latent(latent, frames),
        )


class I2VShareImageTokens(io.ComfyNode):
    """Let every frame look at the image tokens of all frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VShareImageTokens",
            display_name="Share Image Tokens",
            category="I2V Diffusion/conditioning",
            **search_aliases("dynamicrafter tokens", "image embedding"),
            description="For clips of another length than the model's: shows every frame the image tokens of all "
            "frames, as the published DynamiCrafter code does, instead of spreading them over time.",
            inputs=[
                GivenImageSocket.Input(
                    "i2v_image",
                    tooltip="From Encode Image for I2V. Leave this node out at the model's own length.",
                ),
            ],
            outputs=[
                GivenImageSocket.Output(display_name="i2v_image", tooltip="The picture with shared tokens."),
            ],
        )

    @classmethod
    def execute(cls, i2v_image: GivenImage) -> io.NodeOutput:
        tokens, null = (
            tokens if tokens is None else share_image_tokens(tokens)
            for tokens in (i2v_image.image_tokens, i2v_image.null_image_tokens)
        )
        return io.NodeOutput(replace(i2v_image, image_tokens=tokens, null_image_tokens=null))


class I2VVideoLatent(io.ComfyNode):
    """Make the latent of a video that starts with the given image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        size: dict[str, Any] = {"default": 512, "min": 16, "max": 4096, "step": 8}
        return io.Schema(
            node_id="I2VVideoLatent",
            display_name="Video Latent",
            category="I2V Diffusion/conditioning",
            **search_aliases("empty video latent", "first frame"),
            description="Makes the latent of a video, its frames as the batch, for image models that a method of this "
            "pack turns into video models. The first frame is the given image, and samplers leave it as it is.",
            inputs=[
                io.Int.Input(
                    "frames",
                    default=16,
                    min=1,
                    max=4096,
                    tooltip="Frames of the video, the given image included.",
                ),
                io.Int.Input(
                    "width", **size, tooltip="Width in pixels if there is no image, whose own width counts otherwise."
                ),
                io.Int.Input(
                    "height",
                    **size,
                    tooltip="Height in pixels if there is no image, whose own height counts otherwise.",
                ),
                GivenImageSocket.Input(
                    "i2v_image",
                    optional=True,
                    tooltip="The first frame, from Encode Image for I2V. Without it the latent is empty, for 4 "
                    "channels and an eighth of the size, as Stable Diffusion has them.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="For the sampler's latent_image; sample it with denoise 1."
                )
            ],
        )

    @classmethod
    def execute(cls, frames: int, width: int, height: int, i2v_image: GivenImage | None = None) -> io.NodeOutput:
        if i2v_image is not None:
            return io.NodeOutput(pinned_video_latent(i2v_image.latent, frames))
        return io.NodeOutput(empty_image_latents(frames, height, width))
