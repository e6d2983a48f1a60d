"""Nodes that turn frames into video files."""

from comfy_api.latest import InputImpl, io
from torch import Tensor

from ..i2v_core.video import write_video
from .host.output import embedded_metadata, frame_progress, output_file
from .widgets import advanced, search_aliases


class I2VCombineVideo(io.ComfyNode):
    """Write frames as an mp4 file that plays everywhere and carries the workflow."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        crf = advanced(
            io.Int.Input(
                "crf",
                default=17,
                min=1,
                max=51,
                tooltip="Quality against size: lower is better and larger. 17 looks lossless, 23 suits the web.",
            )
        )
        return io.Schema(
            node_id="I2VCombineVideo",
            display_name="Combine Video",
            category="I2V Diffusion/video",
            **search_aliases("video combine", "save video", "export mp4"),
            description="Writes frames as an H.264 mp4 that plays everywhere. "
            "Drop the file on the canvas to get its workflow back.",
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The frames, in order. Transparent parts become white."),
                io.Float.Input(
                    "frame_rate",
                    default=8.0,
                    min=0.1,
                    max=240.0,
                    step=1.0,
                    round=0.001,
                    tooltip="Frames per second. Use the rate the model was asked for; another one plays the "
                    "motion slower or faster.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="I2V/clip",
                    tooltip="Folder and name below the output folder; a counter is added. %year%, %month%, "
                    "%day%, %width% and %height% are filled in.",
                ),
                crf,
                io.Boolean.Input(
                    "save_output",
                    default=True,
                    tooltip="On: keep the file in the output folder. Off: preview only, in the temp folder "
                    "that the host empties when it starts.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The written file, for nodes that take a VIDEO."),
                io.String.Output(display_name="path", tooltip="Where the file lies, as an absolute path."),
                io.Image.Output(display_name="images", tooltip="The frames as they came in."),
            ],
        )

    @classmethod
    def execute(
        cls, images: Tensor, frame_rate: float, filename_prefix: str, crf: int, save_output: bool
    ) -> io.NodeOutput:
        height, width = images.shape[1:3]
        file = output_file(filename_prefix, ".mp4", height=height, width=width, temporary=not save_output)
        write_video(
            file.path,
            images,
            frame_rate,
            crf=crf,
            metadata=embedded_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo),
            on_frame=frame_progress(len(images)),
        )
        shown = file.item(format="video/mp4", frame_rate=frame_rate)
        return io.NodeOutput(
            InputImpl.VideoFromFile(str(file.path)),
            str(file.path),
            images,
            ui={"images": [shown], "animated": (True,)},
        )
