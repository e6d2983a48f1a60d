"""Combine Video against the host's Create Video and Save Video, and its GIF against FFmpeg's command line.

Both write the same frames of a moving photograph as mp4 at H.264's crf 23, the host's only quality; ours also at the 17
that is its default. Each runs in a process of its own, whose peak is measured above what it held with the frames.
GIF is compared with a pipe into `ffmpeg` with palettegen and paletteuse, which is how VideoHelperSuite writes it.
Needs ComfyUI (COMFYUI_PATH, or the copy of dev.py).
Usage: `python3 dev.py bench --frames 2000 --size 512 --runs 3`, `... --frames 250 --size 544 --width 960 --only gif`.
"""

import argparse
import json
import resource
import shutil
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

FFMPEG = shutil.which("ffmpeg")


def moving_photograph(frames: int, height: int, width: int) -> Tensor:
    """A camera moving over a photograph, `t h w 3` in [0, 1]."""
    from i2v_core.video import fit_image

    photo = fit_image(torch.from_numpy(data.coffee().copy()), height + 60, width + 60) / 255
    steps = [i % 120 if i % 120 < 60 else 119 - i % 120 for i in range(frames)]
    images = torch.empty(frames, height, width, 3)
    for image, step in zip(images, steps, strict=True):
        image.copy_(photo[30 : 30 + height, step : step + width])
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


def write_gif(path: Path, images: Tensor, who: str) -> None:
    from i2v_core.video import Encoding, write_video

    started = clock()
    if who == "gif":
        write_video(path, images, 8, Encoding("gif"))
    else:
        size, graph = f"{images.shape[2]}x{images.shape[1]}", "split[a][b];[a]palettegen=reserve_transparent=on[p];[b]"
        command = [FFMPEG, "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", "8", "-i", "-",
                   "-filter_complex", f"[0:v]{graph}[p]paletteuse=dither=sierra2_4a", path]  # fmt: skip
        with subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            for image in images:
                process.stdin.write((image.numpy() * 255 + 0.5).astype("uint8").tobytes())
            process.stdin.close()
    report(started, path.stat().st_size)


def clock() -> tuple[float, float]:
    """Seconds of the wall, and of the processors, which other work on the machine does not lengthen."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return time.perf_counter(), own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def report(started: tuple[float, float], size: int = 0) -> None:
    wall, processor = (now - then for now, then in zip(clock(), started, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in kilobytes
    print(json.dumps({"wall": wall, "processor": processor, "peak": peak, "size": size}))


def measure(who: str, options: argparse.Namespace) -> dict[str, float]:
    sizes = {name: getattr(options, name) for name in ("frames", "size", "width")}
    settings = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, __file__, *settings, "--child", who]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    first, second = map(json.loads, out.strip().splitlines()[-2:])
    return {**second, "above": second["peak"] - first["peak"]}


def child(who: str, options: argparse.Namespace) -> None:
    import av  # noqa: F401 (its libraries are no part of what writing needs)

    torch.set_num_threads(1)
    images = moving_photograph(options.frames, options.size, options.width)
    report(clock())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.gif" if who in ("gif", "ffmpeg") else "clip.mp4")
        if who in ("gif", "ffmpeg"):
            write_gif(path, images, who)
        else:
            write_with_host(path, images) if who == "host" else write_with_ours(path, images, int(who))


def compare_gif(options: argparse.Namespace) -> None:
    if FFMPEG is None:
        print("gif: there is no ffmpeg to compare with")
        return
    taken = in_pairs("gif", "ffmpeg", options)
    size, theirs = (statistics.median(its) for its in taken["size"])
    print_rows([*times("gif", taken, "ffmpeg"), memory_row("gif", size, theirs, "ffmpeg", "size of the file")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--width", type=int, help="of the pictures, if they are not square")
    parser.add_argument("--only", choices=("films", "gif"), help="one of the comparisons")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of the other benchmarks; the encoder has its own")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args()  # all benchmarks are given the same options
    options.width = options.width or options.size
    if options.child:
        child(options.child, options)
        return
    print(f"{options.frames} frames of {options.width} x {options.size}; the host's Save Video at crf 23")
    if options.only != "gif":
        compare_films(options)
    if options.only != "films":
        compare_gif(options)


def compare_films(options: argparse.Namespace) -> None:
    rows: list[Row] = []
    for who in ("23", "17"):
        taken, case = in_pairs(who, "host", options), f"crf {who}"
        above, theirs = (statistics.median(its) for its in taken["above"])
        rows += [
            *times(case, taken, "the host"),
            Row(case, "time per frame", statistics.median(taken["wall"][0]) / options.frames * 1e3, "ms"),
            memory_row(case, above, theirs, "the host", "peak above the frames"),
        ]
    print_rows(rows)


def in_pairs(who: str, other: str, options: argparse.Namespace) -> dict[str, list[list[float]]]:
    """What `measure` tells of one and of another, one after the other in each run: by key, the lists of both."""
    pairs = [[measure(each, options) for each in (who, other)] for _ in range(options.runs)]
    return {key: [[pair[side][key] for pair in pairs] for side in (0, 1)] for key in pairs[0][0]}


def times(case: str, taken: dict[str, list[list[float]]], to: str) -> list[Row]:
    return [
        time_row(case, *taken["wall"], to, "time by the clock"),
        time_row(case, *taken["processor"], to, "time of the processor"),
    ]


if __name__ == "__main__":
    main()
