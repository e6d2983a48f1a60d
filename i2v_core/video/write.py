"""Writing H.264 video files, one frame at a time."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from ..files import StrPath, atomic_path
from .color import tag_bt709, to_yuv_frame
from .frames import to_bytes, to_rgb
from .read import as_fps


@dataclass(frozen=True)
class WrittenVideo:
    """What was written. `height` and `width` are the file's: even, one more than the frames' where odd."""

    path: Path
    frames: int
    height: int
    width: int
    fps: Fraction


def write_video(
    path: StrPath,
    frames: Iterable[Tensor],
    fps: Fraction | float,
    *,
    crf: int = 17,
    metadata: Mapping[str, str] | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> WrittenVideo:
    """Write frames as H.264 in mp4 (4:2:0, BT.709, index at the start of the file), atomically.

    Args:
        path: name ending in .mp4; an existing file is replaced.
        frames: pictures `h w c` with c 1, 3 or 4, uint8 or floating point in [0, 1] (overshoot is clamped),
            all of one size, on any device, taken one at a time. A tensor `t h w c` is such an iterable. Odd
            sides grow by one, repeating the edge.
        fps: frames per second, see `as_fps`.
        crf: 0 (lossless, which browsers do not play) to 51; 17 looks lossless.
        metadata: strings stored in the file under these keys.
        on_frame: called with the number of frames encoded so far; what it raises cancels, and leaves no file.

    Raises:
        ValueError: no frames, sizes that differ, NaN, wrong channels, or an argument out of range.
        OSError: the folder is missing, not writable or full, as `atomic_path`.
    """
    path, rate, tags = Path(path), as_fps(fps), dict(metadata or {})
    if path.suffix.lower() != ".mp4" or not 0 <= crf <= 51:
        raise ValueError(f"Expected a name ending in .mp4 and a crf from 0 to 51, got '{path.name}' and {crf}.")
    if not all(isinstance(text, str) for entry in tags.items() for text in entry):
        raise ValueError("Expected strings as keys and values of metadata. Use json.dumps for other values.")
    with atomic_path(path) as temporary, _open(temporary) as container:
        container.metadata.update(tags)
        count, stream = _encode(container, frames, rate, crf, on_frame)
        return WrittenVideo(path, count, stream.height, stream.width, rate)


def _open(path: Path) -> OutputContainer:
    # Custom tags survive in mp4 only with use_metadata_tags; faststart puts the index before the pictures.
    return av.open(str(path), "w", format="mp4", options={"movflags": "use_metadata_tags+faststart"})


def _encode(
    container: OutputContainer,
    frames: Iterable[Tensor],
    rate: Fraction,
    crf: int,
    on_frame: Callable[[int], None] | None,
) -> tuple[int, VideoStream]:
    stream, count, size = None, 0, (0, 0, 0)
    for count, frame in enumerate(frames, start=1):
        picture = _to_array(frame)
        if stream is None:
            stream, size = _add_stream(container, picture, rate, crf), picture.shape
        if picture.shape != size:
            raise ValueError(f"Frame {count} is {picture.shape[:2]}, the first was {size[:2]}. Fit all to one size.")
        encoded = to_yuv_frame(picture)
        encoded.pts, encoded.time_base = count - 1, 1 / rate
        container.mux(stream.encode(encoded))
        if on_frame is not None:
            on_frame(count)
    if stream is None:
        raise ValueError("Expected at least one frame to write, got none.")
    container.mux(stream.encode(None))
    return count, stream


def _add_stream(container: OutputContainer, picture: NDArray[np.uint8], rate: Fraction, crf: int) -> VideoStream:
    stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf)})
    height, width = picture.shape[:2]
    stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
    tag_bt709(stream.codec_context)
    return stream


def _to_array(frame: Tensor) -> NDArray[np.uint8]:
    if frame.ndim != 3:
        raise ValueError(f"Expected frames `h w c`, got shape {tuple(frame.shape)}. Pass a tensor `t h w c`.")
    array: NDArray[np.uint8] = to_bytes(to_rgb(frame)).cpu().numpy()
    return array
