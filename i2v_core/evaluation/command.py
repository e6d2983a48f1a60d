"""`python -m i2v_core evaluate`: folders of results, or a checkpoint with a protocol file, to JSON and HTML."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from ..files import atomic_path
from ..weights.companions.command import base_files
from .processes import Processes
from .run import EvaluationConfig
from .study.command import add_study_arguments, make_study, read_study

Progress = Callable[[str], None]


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of the folder and protocol forms, which come on top of those of the motion test."""
    sub.add_argument("folders", nargs="*", help="folders of results; differences are taken to the first")
    sub.add_argument("--protocol", help="TOML or JSON file: what the checkpoint is to make, see docs/evaluation.md")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="in place of the protocol's")
    for name, kind in (("references", "ground-truth clips"), ("images", "given images")):
        sub.add_argument(f"--{name}", help=f"folder of {kind}, paired by name")
    sub.add_argument("--captions", help="folder of NAME.txt, or JSON of texts by name")
    sub.add_argument("--categories", help="JSON of categories by name, for means over each; default: categories.json "
                     "beside the ground truth")  # fmt: skip
    sub.add_argument("--frames", type=int, help="frames of each clip; default: all")
    sub.add_argument("--fps", type=float, help="samples per second; default: the file's")
    sub.add_argument("--stride", type=int, default=1, help="take every n-th frame")
    for name in ("height", "width"):
        sub.add_argument(f"--{name}", type=int, help="what frames are fitted to; default: the file's")
    sub.add_argument("--fit", choices=("crop", "pad", "stretch"), default="crop")
    sub.add_argument("--start", choices=("first", "center", "random"), default="first")
    sub.add_argument("--seed", type=int, default=0, help="of random starts and the control rows")
    sub.add_argument("--clip", help="transformers folder or file of CLIP")
    sub.add_argument("--quick-gelu", action=argparse.BooleanOptionalAction, help="activation of a CLIP file")
    for name, use in (("i3d", "FVD, KVD"), ("c3d", "video IS"), ("inception", "FID"), ("raft", "dynamic degree")):
        sub.add_argument(f"--{name}", help=f"weights for {use}")
    sub.add_argument("--no-controls", action="store_true", help="leave the control rows out")
    sub.add_argument("--vbench", help="also write a folder for the official VBench-I2V tool")
    add_study_arguments(sub)


def evaluate_files(arguments: argparse.Namespace, progress: Progress) -> str | None:
    """Run the folder, the protocol or the study form; returns what to print, the path of what was written last.

    None in all processes but the first.

    Raises:
        ValueError, FileNotFoundError: arguments that do not go together, or files that are not there.
    """
    from .report import render_report
    from .run import measure_folders, read_records
    from .summary import summarize
    from .vbench import export_vbench

    if not arguments.output:
        raise ValueError("Give --output, a folder for the numbers of every clip and the report.")
    if arguments.study_results:
        return read_study(arguments)
    if bool(arguments.folders) == bool(arguments.protocol):
        raise ValueError("Give either folders of results or --protocol, which says what the checkpoint makes.")
    processes = Processes(arguments.device)
    if arguments.protocol:
        _make_clips(arguments, processes, progress)
    if arguments.study:
        page = make_study(arguments, _labels(arguments.folders)) if processes.is_main else None
        processes.close()
        return page
    config = _config(arguments)

    def told(done: int, count: int, name: str) -> None:
        progress(f"measured {name} ({done}/{count})")

    items = measure_folders(config, processes, told)
    report = config.output / "report.html"
    if processes.is_main:
        records = read_records(config.output, items)
        summary = summarize(config, items, records)
        _write(config.output / "report.json", json.dumps(summary, indent=1, default=str) + "\n")
        _write(report, render_report(summary, items, records, config.protocol, report))
        if arguments.vbench:
            export_vbench(items, summary["baseline"], Path(arguments.vbench))
    main = processes.is_main
    processes.close()
    return str(report) if main else None


def _make_clips(arguments: argparse.Namespace, processes: Processes, progress: Progress) -> None:
    from .. import load_checkpoint
    from ..denoiser import Denoiser
    from ..weights import load_adapter
    from .generation import make_clips
    from .protocol import read_protocol

    protocol = read_protocol(Path(arguments.protocol), arguments.set)
    files = [Path(arguments.checkpoint), *map(Path, (*arguments.adapter, *protocol.adapters))]
    checkpoint = load_checkpoint(files[0], device=processes.device, **base_files(arguments))
    adapters = [load_adapter(path, device=processes.device) for path in files[1:]]
    results, references = make_clips(
        checkpoint, Denoiser.adapted(checkpoint.unet, checkpoint.preset, adapters), protocol, Path(arguments.output),
        processes, " + ".join(f"{path.name} ({path.stat().st_size} bytes)" for path in files),
        lambda done, count, name: progress(f"made {name} ({done}/{count})"),
    )  # fmt: skip
    arguments.folders = [str(results)]
    arguments.references = arguments.references or str(references)


def _config(arguments: argparse.Namespace) -> EvaluationConfig:
    from .items import ClipProtocol
    from .networks import NetworkFiles

    def path(name: str) -> Path | None:
        given = getattr(arguments, name)
        return Path(given) if given else None

    kinds = ("clip", "i3d", "c3d", "inception", "raft")
    return EvaluationConfig(
        folders=_labels(arguments.folders),
        output=Path(arguments.output),
        references=path("references"),
        images=path("images"),
        captions=path("captions"),
        categories=path("categories"),
        protocol=ClipProtocol(
            arguments.frames, arguments.fps, arguments.stride, arguments.height, arguments.width, arguments.fit,
            arguments.start, arguments.seed,
        ),
        networks=NetworkFiles(**{kind: path(kind) for kind in kinds}, quick_gelu=arguments.quick_gelu),
        controls=not arguments.no_controls,
        device=arguments.device,
    )  # fmt: skip


def _labels(folders: list[str]) -> dict[str, Path]:
    """Folders by their names, or by their paths where names repeat."""
    from .controls import ROWS

    names = [Path(folder).resolve().name for folder in folders]
    labels = names if len(set(names)) == len(names) else folders
    if taken := set(labels) & set(ROWS):
        raise ValueError(f"'{min(taken)}' is the name of a control row: rename the folder of results.")
    if len(set(labels)) < len(labels):
        raise ValueError("The same folder of results is given twice.")
    return {label: Path(folder) for label, folder in zip(labels, folders, strict=True)}


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
