"""Video files and pictures: decoding, encoding, sizes and value ranges."""

from .frames import (
    FitMode,
    clip_to_frames,
    fit_image,
    fit_size,
    frames_to_clip,
    to_bytes,
    to_model_range,
    to_rgb,
    to_unit_range,
)
from .read import Clip, FrameIndex, as_fps, index_frames, read_frames, read_video, select_frames, stream_frames
from .read_audio import read_audio
from .write import WrittenVideo, write_video

__all__ = [
    "Clip",
    "FitMode",
    "FrameIndex",
    "WrittenVideo",
    "as_fps",
    "clip_to_frames",
    "fit_image",
    "fit_size",
    "frames_to_clip",
    "index_frames",
    "read_audio",
    "read_frames",
    "read_video",
    "select_frames",
    "stream_frames",
    "to_bytes",
    "to_model_range",
    "to_rgb",
    "to_unit_range",
    "write_video",
]
