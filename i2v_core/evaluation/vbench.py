"""A folder for VBench-I2V (2311.17982, custom input), so that its official tool runs in an environment of its own."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..video import read_picture, to_rgb
from .items import Item

LONGEST = 200  # bytes of a caption that every file system takes as a name


def export_vbench(items: Sequence[Item], label: str, folder: Path) -> int:
    """Copy results as `videos/<caption>-<number>.mp4` and their given images as `images/<caption>.jpg`.

    Args:
        label: which of the result folders.

    Returns:
        The number of videos.

    Raises:
        ValueError: no caption or image, a caption that is no file name, or one caption with two images, which VBench
            cannot tell apart.
    """
    from PIL import Image

    images: dict[str, Path] = {}
    for item in items:
        if item.caption is None or item.image is None:
            missing = "a caption" if item.caption is None else "a given image"
            raise ValueError(f"VBench needs captions and given images: '{item.name}' has not {missing}.")
        if "/" in item.caption or "\0" in item.caption or not 0 < len(item.caption.encode()) <= LONGEST:
            raise ValueError(
                f"VBench names files by their captions, and that of '{item.name}' is no file name: "
                f"leave out slashes and keep to {LONGEST} bytes."
            )
        first = images.setdefault(item.caption, item.image)
        if first.read_bytes() != item.image.read_bytes():
            raise ValueError(
                f"VBench knows an image by its caption, and {item.caption!r} stands for two: "
                f"'{first.name}' and '{item.image.name}'. Change one of the captions."
            )
    for part in ("videos", "images"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for caption, path in images.items():
        picture = to_rgb(read_picture(path)).numpy()
        Image.fromarray(picture).save(folder / "images" / f"{caption}.jpg", quality=95)
    counted: Counter[str] = Counter()
    for item in items:
        caption = str(item.caption)
        shutil.copyfile(item.videos[label], folder / "videos" / f"{caption}-{counted[caption]}.mp4")
        counted[caption] += 1
    return len(items)
