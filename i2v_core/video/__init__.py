"""Video files and pictures: decoding, encoding, sizes and value ranges."""

from .audio import Audio
from .formats import FORMATS, QUALITIES, VideoFormat
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
from .index import FrameIndex, as_fps, index_frames
from .pictures import read_picture
from .read import Clip, read_frames, read_video, select_frames, stream_frames
from .read_audio import read_audio
from .side_by_side import side_by_side
from .write import Encoding, WrittenVideo, play_order, write_video

__all__ = [
    "FORMATS",
    "QUALITIES",
    "Audio",
    "Clip",
    "Encoding",
    "FitMode",
    "FrameIndex",
    "VideoFormat",
    "WrittenVideo",
    "as_fps",
    "clip_to_frames",
    "fit_image",
    "fit_size",
    "frames_to_clip",
    "index_frames",
    "play_order",
    "read_audio",
    "read_frames",
    "read_picture",
    "read_video",
    "select_frames",
    "side_by_side",
    "stream_frames",
    "to_bytes",
    "to_model_range",
    "to_rgb",
    "to_unit_range",
    "write_video",
]
