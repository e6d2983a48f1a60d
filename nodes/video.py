"""Nodes that turn frames into video files."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import InputImpl, Types, io

from ..i2v_core.video import FORMATS, QUALITIES, Encoding, WrittenVideo, as_fps, play_order, write_video
from .convert import Footage, to_audio, to_footage
from .host.output import embedded_metadata, output_file
from .host.progress import progress
from .widgets import advanced, search_aliases

DEPTHS = ("auto", "8", "10", "16")
logger = logging.getLogger(__name__)


class I2VCombineVideo(io.ComfyNode):
    """Write frames as one video file, animation or folder of pictures that carries the workflow."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        crf = advanced(
            io.Int.Input(
                "crf",
                default=17,
                min=1,
                max=51,
                tooltip="Quality against size while quality is 'crf': lower is better and larger. 17 looks lossless, "
                "23 suits the web. The scale is H.264's; other formats translate it to their own.",
            )
        )
        return io.Schema(
            node_id="I2VCombineVideo",
            display_name="Combine Video",
            category="I2V Diffusion/video",
            **search_aliases("video combine", "save video", "export mp4", "gif", "webm"),
            description="Writes frames as one video file, animation or folder of pictures. "
            "Drop the file on the canvas to get its workflow back.",
            is_output_node=True,
            inputs=[
                io.MultiType.Input(
                    "images",
                    [io.Image, io.Video],
                    tooltip="The frames, in order, or a VIDEO, which keeps its own rate and sound. Where the format "
                    "has no transparency, transparent parts become white.",
                ),
                io.Float.Input(
                    "frame_rate",
                    default=8.0,
                    min=0.1,
                    max=240.0,
                    step=1.0,
                    round=0.001,
                    tooltip="Frames per second. Use the rate the model was asked for; another one plays the motion "
                    "slower or faster. 23.976 means 24000/1001. Not used for a VIDEO.",
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
                *_later_inputs(),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The written video, for nodes that take a VIDEO."),
                io.String.Output(display_name="path", tooltip="Where the file lies, as an absolute path."),
                io.Image.Output(display_name="images", tooltip="The frames as they came in."),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: Any,
        frame_rate: float,
        filename_prefix: str,
        crf: int,
        save_output: bool,
        format: str = "mp4 h264",
        quality: str = "crf",
        bit_depth: str = "auto",
        pingpong: bool = False,
        loop_count: int = 0,
        trim_to_audio: bool = False,
        save_metadata: bool = True,
        audio: Mapping[str, Any] | None = None,
    ) -> io.NodeOutput:
        footage = to_footage(images, frame_rate, audio)
        bits = None if bit_depth == "auto" else int(bit_depth)
        encoding = Encoding(format, QUALITIES.get(quality, crf), bits, loop_count)
        order = _order(footage, encoding, pingpong=pingpong, trim=trim_to_audio)
        height, width = footage.images.shape[1:3]
        suffix = encoding.how.suffix
        file = output_file(filename_prefix, suffix, height=height, width=width, temporary=not save_output)
        written = write_video(
            file.path,
            [footage.images[i] for i in order],
            footage.fps,
            encoding,
            audio=to_audio(footage.audio),
            metadata=embedded_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo) if save_metadata else None,
            on_frame=progress(len(order)),
        )
        _say_what_changed(footage, encoding, written)
        shown = file.item(written.shown, format=encoding.how.mime, frame_rate=float(written.fps))
        return io.NodeOutput(
            _video(footage, order, encoding, written),
            str(file.path),
            footage.images,
            ui={"images": [shown], "animated": (not encoding.how.is_sequence,)},
        )


def _later_inputs() -> list[Any]:
    """What came after the first release: optional, because saved workflows lack it, and at the end."""
    return [
        io.Combo.Input(
            "format",
            options=list(FORMATS),
            default="mp4 h264",
            optional=True,
            tooltip="mp4 h264 plays everywhere. webm vp9, mov prores, mkv ffv1, webp, apng and png keep transparency; "
            "mkv ffv1, webp lossless, apng and png keep every pixel. gif, webp and apng have no sound.",
        ),
        io.Combo.Input(
            "quality",
            options=["crf", *QUALITIES],
            default="crf",
            optional=True,
            tooltip="crf: as the number of that name says. "
            + ", ".join(f"{name}: {crf}" for name, crf in QUALITIES.items())
            + ". Lossless formats and GIF have no choice.",
        ),
        io.Boolean.Input(
            "pingpong", default=False, optional=True, tooltip="Play forward and back again, for a loop without a jump."
        ),
        advanced(
            io.Int.Input(
                "loop_count",
                default=0,
                min=0,
                max=100,
                optional=True,
                tooltip="How often it plays. 0: animations (gif, webp, apng) endlessly, all others once. Films "
                "repeat their frames.",
            )
        ),
        advanced(
            io.Combo.Input(
                "bit_depth",
                options=list(DEPTHS),
                default="auto",
                optional=True,
                tooltip="Bits per channel. auto: 10 for mov prores, 8 for others. Browsers do not play H.264 at 10.",
            )
        ),
        advanced(
            io.Boolean.Input(
                "trim_to_audio",
                default=False,
                optional=True,
                tooltip="On: the pictures end where the sound does. Off: the sound is cut, or filled with silence.",
            )
        ),
        advanced(
            io.Boolean.Input(
                "save_metadata",
                default=True,
                optional=True,
                tooltip="Put the workflow into the file. Off: a file to hand out that does not tell how it was made.",
            )
        ),
        io.Audio.Input("audio", optional=True, tooltip="The sound; goes before that of a VIDEO."),
    ]


def _order(footage: Footage, encoding: Encoding, *, pingpong: bool, trim: bool) -> list[int]:
    """Frame numbers in the order of playing; an animation repeats by itself, a film repeats its frames."""
    times = 1 if encoding.how.loop else max(encoding.plays, 1)
    order = play_order(len(footage.images), pingpong=pingpong, times=times)
    sound = to_audio(footage.audio)
    if not trim or sound is None:
        return order
    return order[: max(math.floor(sound.duration * as_fps(footage.fps)), 1)]


def _video(footage: Footage, order: list[int], encoding: Encoding, written: WrittenVideo) -> Any:
    """The host's VIDEO: the file where the host can read it back, and the frames otherwise."""
    if encoding.how.is_film:
        return InputImpl.VideoFromFile(str(written.path))
    same = order == list(range(len(footage.images)))
    images = footage.images if same else footage.images[order]
    parts = Types.VideoComponents(images=images, audio=footage.audio, frame_rate=written.fps)
    return InputImpl.VideoFromComponents(parts)


def _say_what_changed(footage: Footage, encoding: Encoding, written: WrittenVideo) -> None:
    height, width, channels = footage.images.shape[1:]
    if (height, width) != (written.height, written.width):
        grown = f"{written.height}x{written.width} instead of {height}x{width}"
        logger.info("Combine Video: %s wants even sides: %s, repeating the edge.", encoding.format, grown)
    if channels == 4 and not encoding.how.alpha:
        logger.info("Combine Video: %s has no transparency: it was laid over white.", encoding.format)
    if footage.audio is not None and not encoding.how.audio:
        logger.info("Combine Video: %s has no sound: the audio was left out.", encoding.format)
