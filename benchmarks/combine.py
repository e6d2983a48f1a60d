"""Combine Video against the host's own Create Video and Save Video: time, and memory above the input.

Both write the same frames of a moving photograph as mp4 at H.264's crf 23, the host's only quality; ours also at the 17
that is its default. Each runs in a process of its own, whose peak is measured above what it held with the frames.
Needs ComfyUI (COMFYUI_PATH, or the copy of dev.py).
Usage: `python3 dev.py bench --frames 2000 --size 512 --runs 3`.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import torch
from skimage import data
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _host import ROOT
from _rows import Row, memory_row, print_rows, time_row


def moving_photograph(frames: int, size: int) -> Tensor:
    """A camera moving over a photograph, `t h w 3` in [0, 1]."""
    from i2v_core.video import fit_image

    photo = fit_image(torch.from_numpy(data.coffee().copy()), size + 60, size + 60) / 255
    steps = [i % 120 if i % 120 < 60 else 119 - i % 120 for i in range(frames)]
    images = torch.empty(frames, size, size, 3)
    for image, step in zip(images, steps, strict=True):
        image.copy_(photo[30 : 30 + size, step : step + size])
    return images


def write_with_host(path: Path, images: Tensor) -> None:
    import dev

    sys.path.insert(0, str(dev.find_host()))
    sys.argv = sys.argv[:1]  # the host reads them when it is imported
    from comfy_api.latest import InputImpl, Types

    started = clock()
    parts = Types.VideoComponents(images=images, audio=None, frame_rate=Fraction(8))
    InputImpl.VideoFromComponents(parts).save_to(str(path), metadata={"prompt": {}})
    report(started)


def write_with_ours(path: Path, images: Tensor, crf: int) -> None:
    from i2v_core.video import Encoding, write_video

    started = clock()
    write_video(path, images, 8, Encoding(crf=crf), metadata={"prompt": "{}"})
    report(started)


def clock() -> tuple[float, float]:
    """Seconds of the wall, and of the processor, which other work on the machine does not lengthen."""
    return time.perf_counter(), time.process_time()


def report(started: tuple[float, float]) -> None:
    wall, processor = (now - then for now, then in zip(clock(), started, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in kilobytes
    print(json.dumps({"wall": wall, "processor": processor, "peak": peak}))


def measure(who: str, frames: int, size: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--frames", str(frames), "--size", str(size), "--child", who]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    first, second = map(json.loads, out.strip().splitlines()[-2:])
    return {**second, "above": second["peak"] - first["peak"]}


def child(who: str, frames: int, size: int) -> None:
    import av  # noqa: F401 (its libraries are no part of what writing needs)

    torch.set_num_threads(1)
    images = moving_photograph(frames, size)
    report(clock())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        write_with_host(path, images) if who == "host" else write_with_ours(path, images, int(who))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of the other benchmarks; the encoder has its own")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args()  # all benchmarks are given the same options
    if options.child:
        child(options.child, options.frames, options.size)
        return
    print(f"{options.frames} frames of {options.size} x {options.size}; the host's Save Video at crf 23")
    rows: list[Row] = []
    for who in ("23", "17"):
        pairs = [[measure(each, options.frames, options.size) for each in ("host", who)] for _ in range(options.runs)]
        taken = {key: [[pair[side][key] for pair in pairs] for side in (1, 0)] for key in pairs[0][0]}
        case, (above, theirs) = f"crf {who}", (statistics.median(its) for its in taken["above"])
        rows += [
            time_row(case, *taken["wall"], "the host", "time by the clock"),
            time_row(case, *taken["processor"], "the host", "time of the processor"),
            Row(case, "time per frame", statistics.median(taken["wall"][0]) / options.frames * 1e3, "ms"),
            memory_row(case, above, theirs, "the host", "peak above the frames"),
        ]
    print_rows(rows)


if __name__ == "__main__":
    main()
