"""Nodes that take clips out of videos."""

from comfy_api.latest import io

from ..i2v_core.video import FitMode, select_frames
from .host.video import open_video, select
from .widgets import advanced, search_aliases

FITS = ["crop", "pad", "stretch"]


def side(name: str) -> io.Int.Input:
    """Width or height; 0 keeps the video's."""
    tooltip = f"{name.capitalize()} of the frames in pixels; 0 for both keeps the video's size."
    return io.Int.Input(name, default=0, min=0, max=16384, step=8, tooltip=tooltip)


class I2VLoadClip(io.ComfyNode):
    """Decode a stretch of a video, and nothing else of it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        fit = advanced(
            io.Combo.Input(
                "fit",
                options=FITS,
                default="crop",
                tooltip="How another size is reached: crop what sticks out, pad with black bars, or stretch.",
            )
        )
        return io.Schema(
            node_id="I2VLoadClip",
            display_name="Load Clip",
            category="I2V Diffusion/video",
            **search_aliases("load video", "trim video", "video frames", "last frames"),
            description="Takes a few frames out of a video by their times, without decoding the rest: exact on "
            "variable frame rates, upright, in the file's own colors.",
            inputs=[
                io.Video.Input("video", tooltip="From Load Video or Combine Video."),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=360000.0,
                    step=0.1,
                    round=0.001,
                    tooltip="Seconds from the beginning to the first frame taken; with from_end, from the end back to "
                    "the last one.",
                ),
                io.Int.Input(
                    "frames", default=16, min=0, max=100000, tooltip="How many frames; 0 takes all there are."
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=1.0,
                    round=0.001,
                    tooltip="Frames taken per second of the video, by time. 0: the video's own frames, see stride.",
                ),
                io.Int.Input(
                    "stride", default=1, min=1, max=1000, tooltip="Take every so many frames. Only with fps 0."
                ),
                io.Boolean.Input(
                    "from_end",
                    default=False,
                    tooltip="On: take the last frames instead of the first ones, for example to continue the video.",
                ),
                side("width"),
                side("height"),
                fit,
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The frames, in order."),
                io.Float.Output(display_name="fps", tooltip="Frames per second that they play at, for Combine Video."),
                io.Audio.Output(display_name="audio", tooltip="The sound beside them; empty if the video is silent."),
            ],
        )

    @classmethod
    def execute(
        cls, video: object, start: float, frames: int, fps: float, stride: int, from_end: bool, width: int,
        height: int, fit: FitMode = "crop",
    ) -> io.NodeOutput:  # fmt: skip
        if (width == 0) != (height == 0):
            raise ValueError(f"Expected both width and height, or 0 for both, got {width}x{height}.")
        opened = open_video(video)
        chosen, rate = select_frames(
            opened.index, start=start, frames=frames or None, fps=fps or None, stride=stride, from_end=from_end
        )
        images = select(opened, chosen, (height, width) if height else None, fit)
        audio = opened.audio(float(opened.index.time(chosen[0])), float(len(chosen) / rate))
        return io.NodeOutput(images, float(rate), audio)
