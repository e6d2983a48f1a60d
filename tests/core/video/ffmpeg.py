"""FFmpeg's command line as maker and reference of video files."""

import shutil
import subprocess
from pathlib import Path

import numpy as np

FFMPEG = shutil.which("ffmpeg")
CASES = Path(__file__).parents[2] / "cases"
# The filters that our reader promises, in the same quality.
SCALING = "bicubic+full_chroma_int+accurate_rnd"


def ffmpeg(*arguments: object) -> bytes:
    """Run it; what it writes to `-` is returned."""
    command = [str(FFMPEG), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def decoded(path: Path, height: int, width: int, *filters: str) -> np.ndarray:
    """All frames `t h w 3` as the command line decodes them."""
    chain = ",".join([*filters, f"scale={width}:{height}:flags={SCALING}"])
    raw = ffmpeg("-i", path, "-map", "0:v:0", "-vf", chain, "-vsync", "passthrough", "-pix_fmt", "rgb24",
                 "-f", "rawvideo", "-")  # fmt: skip
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
