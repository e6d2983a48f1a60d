"""Nodes that turn frames into video files."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import InputImpl, Types, io
from torch import Tensor

from ..i2v_core.video import FORMATS, QUALITIES, Audio, Encoding, WrittenVideo, play_order, write_video
from .convert import to_audio
from .host.output import embedded_metadata, filled_in, is_linked, output_file, running_links
from .host.progress import progress
from .host.video import Footage, Frames, Playback, open_images, select
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
            hidden=[io.Hidden.unique_id],
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
                    tooltip="Folder and name below the output folder; a counter is added. %date:yyyy-MM-dd%, "
                    "%width%, %height% and %Node.widget% (the value of a widget) are filled in.",
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
        footage = open_images(images, frame_rate)
        encoding = Encoding(
            format, QUALITIES.get(quality, crf), None if bit_depth == "auto" else int(bit_depth), loop_count
        )
        sound = audio if audio is not None else footage.audio(0, float(footage.index.duration), padded=False)
        heard = to_audio(sound)
        order = _order(footage, encoding, heard if trim_to_audio else None, pingpong=pingpong)
        prompt, extra = cls.hidden.prompt, cls.hidden.extra_pnginfo
        file = output_file(
            filled_in(filename_prefix, prompt, extra), encoding.how.suffix, height=footage.shape[0],
            width=footage.shape[1], temporary=not save_output,
        )  # fmt: skip
        written = write_video(
            file.path, Playback(footage, order), footage.index.fps, encoding, audio=heard,
            metadata=embedded_metadata(prompt, extra) if save_metadata else None, on_frame=progress(len(order)),
        )  # fmt: skip
        _say_what_changed(footage, heard, encoding, written)
        shown = file.item(written.shown, format=encoding.how.mime, frame_rate=float(written.fps))
        # What was written as a stream is not gathered for outputs that nobody reads.
        free = encoding.how.is_film, True, isinstance(footage, Frames)
        video, _, frames = (made or is_linked(prompt, cls.hidden.unique_id, slot) for slot, made in enumerate(free))
        return io.NodeOutput(
            _video(footage, order, sound, encoding, written) if video else None,
            str(file.path),
            _gathered(footage) if frames else None,
            ui={"images": [shown], "animated": (not encoding.how.is_sequence,)},
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> Any:
        """Runs again when an output is connected that was not made before."""
        return running_links("I2VCombineVideo")


def _later_inputs() -> list[Any]:
    """Inputs added after the first release: optional, because saved workflows lack them, and at the end."""
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


def _order(footage: Footage, encoding: Encoding, sound: Audio | None, *, pingpong: bool) -> list[int]:
    """Frame numbers in the order of playing, no longer than the sound; an animation repeats by itself, a film repeats
    its frames."""
    times = 1 if encoding.how.loop else max(encoding.plays, 1)
    order = play_order(len(footage.index), pingpong=pingpong, times=times)
    return order if sound is None else order[: max(math.floor(sound.duration * footage.index.fps), 1)]


def _video(footage: Footage, order: list[int], sound: Any, encoding: Encoding, written: WrittenVideo) -> Any:
    """The host's VIDEO: the file where the host can read it back, and the frames otherwise."""
    if encoding.how.is_film:
        return InputImpl.VideoFromFile(str(written.path))
    images = _gathered(footage)
    images = images if order == list(range(len(images))) else images[order]
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, audio=sound, frame_rate=written.fps))


def _gathered(footage: Footage) -> Tensor:
    """All frames as IMAGE; those that came as IMAGE are the same ones."""
    if isinstance(footage, Frames):
        return footage.images
    return select(footage, range(len(footage.index)), None, "crop")


def _say_what_changed(footage: Footage, sound: Audio | None, encoding: Encoding, written: WrittenVideo) -> None:
    height, width, channels = footage.shape
    if (height, width) != (written.height, written.width):
        grown = f"{written.height}x{written.width} instead of {height}x{width}"
        logger.info("Combine Video: %s wants even sides: %s, repeating the edge.", encoding.format, grown)
    if channels == 4 and not encoding.how.alpha:
        logger.info("Combine Video: %s has no transparency: it was laid over white.", encoding.format)
    if sound is not None and not encoding.how.audio:
        logger.info("Combine Video: %s has no sound: the audio was left out.", encoding.format)
    if sound is not None and encoding.how.audio and sound.is_mixed_down:
        logger.info("Combine Video: the sound's %d channels were mixed down to one.", len(sound.samples))
