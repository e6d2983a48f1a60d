"""Guidance with a scale each for text and image, as a guider and as a sampler of its own."""

from typing import Any, get_args

from comfy_api.latest import io

from ..i2v_core.conditions import GivenImage
from ..i2v_core.diffusion.guidance import DualGuidance, GuidanceOrder, ScaleKind, ScaleSchedule
from .convert import empty_video_latent
from .host.conditioning import with_given_image
from .host.guidance import DualGuider, sample_guided, sampler_names
from .sockets import GivenImageSocket
from .widgets import advanced, search_aliases, share

MAX_SCALE = 100.0


def scale_inputs(text: float, image: float) -> list[Any]:
    """Widgets of a dual guidance, with the defaults of its scales."""
    return [
        _scale(
            "text_scale",
            text,
            "How strongly the text guides: 1 as the model understands it, more follows harder, 0 not at all.",
        ),
        _scale(
            "image_scale",
            image,
            "How strongly the image guides: 1 as the model sees it, more is closer to it and soon too hard, 0 not at "
            "all.",
        ),
        io.Combo.Input(
            "order",
            options=list(get_args(GuidanceOrder)),
            default="text_first",
            tooltip="text_first: from nothing to the text, then to text and image (DreamVideo). image_first: from "
            "nothing to the image, then to both (DynamiCrafter). Decides what the second condition has to be.",
        ),
        *_schedule_inputs(),
    ]


def _schedule_inputs() -> list[Any]:
    """The widgets that most users leave alone."""
    widgets = [
        share(
            "rescale",
            0.0,
            "Draws contrast back to the unguided prediction's; 0.7 is usual with high scales, 0 is off.",
        )
    ]
    for name in ("text", "image"):
        widgets += [
            io.Combo.Input(
                f"{name}_schedule",
                options=list(get_args(ScaleKind)),
                default="constant",
                tooltip=f"How the {name} scale runs over the steps: constant, linear or cosine to its end scale, or "
                "interval: within the interval its scale, outside the end scale.",
            ),
            _scale(
                f"{name}_end_scale",
                1.0,
                f"Scale of the {name} at the last step, or outside the interval; unused if constant.",
            ),
        ]
    widgets += [
        share("interval_start", 0.0, "For interval: the first step inside it, as a share of all steps."),
        share("interval_stop", 1.0, "For interval: the last step inside it, as a share of all steps."),
    ]
    return [advanced(widget) for widget in widgets]


def _scale(name: str, default: float, tooltip: str) -> Any:
    return io.Float.Input(name, default=default, min=0.0, max=MAX_SCALE, step=0.1, round=0.001, tooltip=tooltip)


def dual_guidance(
    text_scale: float,
    image_scale: float,
    order: GuidanceOrder,
    rescale: float = 0.0,
    text_schedule: ScaleKind = "constant",
    text_end_scale: float = 1.0,
    image_schedule: ScaleKind = "constant",
    image_end_scale: float = 1.0,
    interval_start: float = 0.0,
    interval_stop: float = 1.0,
) -> DualGuidance:
    """The dual guidance that the widgets of `scale_inputs` set."""
    text = ScaleSchedule(text_scale, text_schedule, text_end_scale, interval_start, interval_stop)
    image = ScaleSchedule(image_scale, image_schedule, image_end_scale, interval_start, interval_stop)
    return DualGuidance(text, image, order, rescale)


class I2VWithoutImage(io.ComfyNode):
    """Conditions of "no image" for a given one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VWithoutImage",
            display_name="Without Image",
            category="I2V Diffusion/conditioning",
            **search_aliases("null image", "unconditional image"),
            description="Gives what stands for 'no image' beside a given one, for the conditions of Dual-Guidance "
            "Guider: a white picture, or the null tokens of models that look at image tokens.",
            inputs=[GivenImageSocket.Input("i2v_image", tooltip="The picture to animate, from Encode Image for I2V.")],
            outputs=[
                GivenImageSocket.Output(display_name="i2v_image", tooltip="No picture, for a second I2V Conditioning.")
            ],
        )

    @classmethod
    def execute(cls, i2v_image: GivenImage) -> io.NodeOutput:
        return io.NodeOutput(i2v_image.without())


class I2VDualGuidanceGuider(io.ComfyNode):
    """Guide any model by text and image apart."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="I2VDualGuidanceGuider",
            display_name="Dual-Guidance Guider",
            category="I2V Diffusion/sampling",
            **search_aliases("dual cfg", "image cfg", "dreamvideo"),
            description="A guider with a scale each for text and image, for SamplerCustomAdvanced and every model. "
            "Takes three conditions; those that the scales give no weight are not run.",
            inputs=[
                io.Model.Input("model", tooltip="Any model that takes conditioning."),
                io.Conditioning.Input("full", tooltip="With text and image."),
                io.Conditioning.Input(
                    "single",
                    tooltip="With the condition that comes first alone: text_first the text without image, image_first "
                    "the image with the negative prompt.",
                ),
                io.Conditioning.Input("null", tooltip="With neither: the negative prompt without image."),
                *scale_inputs(2.0, 1.0),
            ],
            outputs=[io.Guider.Output(display_name="guider", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model: Any, full: list[Any], single: list[Any], null: list[Any], **scales: Any) -> io.NodeOutput:
        return io.NodeOutput(DualGuider(model, dual_guidance(**scales), full, single, null))


class I2VDualGuidanceSampler(io.ComfyNode):
    """Sample a video with a scale each for text and image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        samplers, schedulers = sampler_names()
        fps = advanced(
            io.Float.Input(
                "fps",
                default=0.0,
                min=0.0,
                max=240.0,
                step=1.0,
                tooltip="As in I2V Conditioning; 0 is the model's own.",
            )
        )
        return io.Schema(
            node_id="I2VDualGuidanceSampler",
            display_name="Dual-Guidance Sampler",
            category="I2V Diffusion/sampling",
            **search_aliases("dual cfg", "image cfg", "animate image"),
            description="Animates the given image with a scale each for text and image. Makes its three conditions "
            "itself, so it stands in the place of I2V Conditioning and KSampler.",
            inputs=[
                io.Model.Input("model", tooltip="A video model of this pack, best with Apply Image Retention."),
                io.Conditioning.Input("positive", tooltip="What should happen, from CLIP Text Encode."),
                io.Conditioning.Input("negative", tooltip="What should not, from CLIP Text Encode; may be empty text."),
                GivenImageSocket.Input("i2v_image", tooltip="The picture to animate, from Encode Image for I2V."),
                io.Int.Input(
                    "frames", default=8, min=2, max=1024, tooltip="Frames of the video: demo 8, DynamiCrafter 16."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed gives the same video.",
                ),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="More steps are finer and slower."),
                io.Combo.Input("sampler_name", options=samplers, default="euler", tooltip="The host's sampler."),
                io.Combo.Input(
                    "scheduler", options=schedulers, default="sgm_uniform", tooltip="How its steps are spread."
                ),
                *scale_inputs(2.0, 1.0),
                fps,
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The video's latent, for VAE Decode.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: list[Any],
        negative: list[Any],
        i2v_image: GivenImage,
        frames: int,
        seed: int,
        steps: int,
        sampler_name: str,
        scheduler: str,
        fps: float = 0.0,
        **scales: Any,
    ) -> io.NodeOutput:
        guidance, nothing, told = dual_guidance(**scales), i2v_image.without(), fps or None
        first = (positive, nothing) if guidance.order == "text_first" else (negative, i2v_image)
        pairs = (positive, i2v_image), first, (negative, nothing)
        full, single, null = (with_given_image(text, image, frames, told) for text, image in pairs)
        latent = empty_video_latent(i2v_image.latent, frames)
        guider = DualGuider(model, guidance, full, single, null)
        return io.NodeOutput(sample_guided(guider, latent, seed, steps, sampler_name, scheduler))
