"""Nodes that tell a story in parts: take up where a clip ended, and put the clips one behind the other."""

from comfy_api.latest import io
from torch import Tensor

from ..i2v_core.stories import join_clips
from ..i2v_core.video.frames import clip_to_frames, frames_to_clip, to_rgb
from ..i2v_core.video.match_colors import lead_colors_back
from .convert import channels_first, frames_first
from .widgets import advanced, search_aliases

MORE_CLIPS = range(3, 9)


class I2VContinueVideo(io.ComfyNode):
    """Take the end of a clip as the picture that the next one begins with."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        shared_frames = advanced(
            io.Int.Input(
                "shared_frames",
                default=1,
                min=1,
                max=256,
                tooltip="How many of the last frames to give. 1 for every model of this pack; more for models of the "
                "host that continue several frames. Join Clips needs the same number.",
            )
        )
        return io.Schema(
            node_id="I2VContinueVideo",
            display_name="Continue Video",
            category="I2V Diffusion/video",
            **search_aliases("extend video", "last frame", "long video"),
            description="Takes the last frame of a clip as the picture that the next part begins with, and can lead "
            "colors that drifted back to those of the first picture.",
            inputs=[
                io.Image.Input("images", tooltip="The clip so far, from VAE Decode or Load Video."),
                io.Float.Input(
                    "color_match",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How far the colors are led back to the reference's by the end of the clip: 0 not at all, "
                    "1 wholly. Does nothing without a reference.",
                ),
                shared_frames,
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="The picture whose colors to keep, mostly the first one of the story: the image output of "
                    "its Encode Image for I2V. Of several the first counts. Leave empty to keep the clip as it is.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="The last frame, for the next part's Encode Image for I2V."
                ),
                io.Image.Output(
                    display_name="images",
                    tooltip="The whole clip, ending with that frame: for Join Clips. Unchanged without a reference.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, images: Tensor, color_match: float, shared_frames: int, reference: Tensor | None = None
    ) -> io.NodeOutput:
        if len(images) < shared_frames:
            raise ValueError(f"Expected a clip of at least the {shared_frames} frames to continue, got {len(images)}.")
        if reference is not None and color_match:
            picture = frames_to_clip(to_rgb(reference[:1]))[:, 0]
            images = clip_to_frames(lead_colors_back(frames_to_clip(to_rgb(images)), picture, color_match))
        return io.NodeOutput(images[-shared_frames:], images)


class I2VJoinClips(io.ComfyNode):
    """Put clips that continue one another one behind the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        more = [
            io.Image.Input(f"clip_{number}", optional=True, tooltip="A further clip; leave empty if there is none.")
            for number in MORE_CLIPS
        ]
        return io.Schema(
            node_id="I2VJoinClips",
            display_name="Join Clips",
            category="I2V Diffusion/video",
            **search_aliases("concatenate videos", "merge clips", "append frames"),
            description="Puts clips one behind the other; frames that a clip repeats of the one before appear once.",
            inputs=[
                io.Image.Input("clip_1", tooltip="The first clip, with Continue Video its images output."),
                io.Image.Input("clip_2", tooltip="The clip that continues it, of the same size."),
                io.Int.Input(
                    "shared_frames",
                    default=1,
                    min=0,
                    max=256,
                    tooltip="How many frames each clip repeats of the one before: 1 behind Continue Video, 0 for clips "
                    "that have nothing in common.",
                ),
                io.Boolean.Input(
                    "match_colors",
                    default=False,
                    tooltip="On: every later clip as a whole gets the colors that make its copy of the shared frame "
                    "look like the earlier one. For models that shift colors from the first frame on.",
                ),
                *more,
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="All frames, for Combine Video.")],
        )

    @classmethod
    def execute(
        cls, clip_1: Tensor, clip_2: Tensor, shared_frames: int, match_colors: bool, **more: Tensor | None
    ) -> io.NodeOutput:
        given = [clip_1, clip_2, *(more[name] for name in sorted(more))]
        clips = [clip for clip in given if clip is not None]
        if match_colors:
            clips = [to_rgb(clip) for clip in clips]
        joined = frames_first(join_clips([channels_first(clip) for clip in clips], shared_frames, match_colors))
        return io.NodeOutput(joined.clamp(0, 1) if match_colors else joined)
