"""From folders of clips to one file of numbers for each item; many processes share the work, and none is done twice."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..files import atomic_path
from ..text_files import LARGE, read_json
from ..unusable import UNUSABLE
from .controls import control_clips
from .items import ClipProtocol, Item, find_items, fitted_picture, read_clip
from .measures import Sample, measure_clip
from .networks import NetworkFiles, Networks
from .processes import Processes

FORMAT = 1
Record = dict[str, Any]


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of an evaluation.

    Attributes:
        folders: results by label; the first is what the others are compared with.
        output: folder for the item files and the report; running again continues there.
        controls: whether the control rows are measured too.
    """

    folders: Mapping[str, Path]
    output: Path
    references: Path | None = None
    images: Path | None = None
    captions: Path | None = None
    categories: Path | None = None
    protocol: ClipProtocol = field(default_factory=ClipProtocol)
    networks: NetworkFiles = field(default_factory=NetworkFiles)
    controls: bool = True
    device: str = "cpu"

    def settings(self) -> dict[str, object]:
        """The settings that an item's numbers depend on besides its files."""
        told = {"format": FORMAT, "labels": list(self.folders), "protocol": asdict(self.protocol)}
        return told | {"controls": self.controls, "networks": self.networks.identities()}


def measure_folders(
    config: EvaluationConfig, processes: Processes, on_item: Callable[[int, int, str], None] | None = None
) -> list[Item]:
    """Measure every item that has no up-to-date file in `output/items` yet.

    Args:
        on_item: called with the number done, of how many, and the name, in this process.

    Returns:
        All items, in the order of their names.

    Raises:
        FileNotFoundError, ValueError: as `find_items`. What is wrong with one item stands in its file instead.
    """
    items = find_items(
        config.folders, references=config.references, images=config.images, captions=config.captions,
        categories=config.categories,
    )  # fmt: skip
    settings = config.settings()
    (config.output / "items").mkdir(parents=True, exist_ok=True)
    todo = [item for item in items if not _is_done(config.output, item, item.fingerprint(settings))]
    # Nobody may write before everybody has seen what is missing, or the parts would differ.
    processes.wait()
    with processes.share(todo) as mine:
        networks = Networks.load(config.networks, processes.device) if mine else None
        for done, item in enumerate(mine, start=1):
            assert networks is not None
            record, features = measure_item(item, config, networks)
            _write(config.output, item, record | {"fingerprint": item.fingerprint(settings)}, features)
            if on_item is not None:
                on_item(done, len(mine), item.name)
    processes.wait()
    return items


def measure_item(item: Item, config: EvaluationConfig, networks: Networks) -> tuple[Record, dict[str, Tensor]]:
    """Numbers, sentences and set features of one item: its results, and the control rows of its ground truth."""
    rows: dict[str, Record] = {}
    features: dict[str, Tensor] = {}
    clips: dict[str, tuple[Tensor, float, str | None]] = {}
    for label, path in item.videos.items():
        result, refusal = _read(path, config.protocol)
        if result is None:
            rows[label] = {"values": {}, "errors": {"file": refusal}}
        else:
            clips[label] = (*result, item.caption)
    truth, refusal = _read(item.reference, config.protocol)
    if refusal is not None:
        rows["truth"] = {"values": {}, "errors": {"file": refusal}}
    # Without ground truth the controls are made of the first result, which is then not called the truth.
    base = truth or next(((clip, fps) for clip, fps, _ in clips.values()), None)
    if config.controls and refusal is None and base is not None and base[0].shape[1] > 1:
        controls = control_clips(base[0], item.caption, item.wrong_caption, seed=f"{config.protocol.seed}/{item.name}")
        clips |= {
            row: (control.clip, base[1], control.caption)
            for row, control in controls.items()
            if row != "truth" or truth is not None
        }
    for row, (clip, fps, caption) in clips.items():
        image, refusal = _given_image(item, clip, config.protocol)
        sample = Sample(
            clip, networks.encoders(), reference=truth[0] if truth else None, image=image, caption=caption, fps=fps
        )
        values, errors = measure_clip(sample)
        found, refused = set_features(clip, networks)
        features |= {f"{row}/{kind}": tensor for kind, tensor in found.items()}
        told = {"image": refusal, "caption": item.caption_refusal}
        errors |= refused | {kind: sentence for kind, sentence in told.items() if sentence is not None}
        rows[row] = {"values": values, "errors": errors, "shape": list(clip.shape), "fps": fps}
    return {"name": item.name, "caption": item.caption, "rows": rows, "networks": networks.names()}, features


def set_features(clip: Tensor, networks: Networks) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Features of one clip for the measures of sets, by network; and the sentence why there are none."""
    found: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    takers: dict[str, Any] = {"i3d": networks.i3d, "c3d": networks.c3d, "inception": networks.inception}
    for kind, network in takers.items():
        try:
            if isinstance(network, str):
                raise ValueError(network)
            found[kind] = network(clip if kind == "inception" else clip[None])
        except ValueError as error:
            refused[kind] = str(error)
    return found, refused


def read_records(output: Path, items: list[Item]) -> list[Record]:
    """The files of the items, in their order."""
    return [read_json(_path(output, item, ".json"), limit=LARGE) for item in items]


def read_features(output: Path, items: list[Item], row: str, kind: str) -> list[Tensor]:
    """Set features of a row, one tensor `n d` for each item that has them."""
    found = []
    for item in items:
        path = _path(output, item, ".safetensors")
        tensors = load_file(path) if path.is_file() else {}
        found += [tensors[f"{row}/{kind}"]] if f"{row}/{kind}" in tensors else []
    return found


def _read(path: Path | None, protocol: ClipProtocol) -> tuple[tuple[Tensor, float] | None, str | None]:
    try:
        return (None if path is None else read_clip(path, protocol)), None
    except UNUSABLE as error:
        return None, str(error)


def _given_image(item: Item, clip: Tensor, protocol: ClipProtocol) -> tuple[Tensor | None, str | None]:
    height, width = clip.shape[-2:]
    try:
        return (None if item.image is None else fitted_picture(item.image, height, width, protocol.fit)), None
    except UNUSABLE as error:
        return None, f"The given image cannot be used: {error}"


def _path(output: Path, item: Item, ending: str) -> Path:
    return output / "items" / f"{item.name}{ending}"


def _is_done(output: Path, item: Item, fingerprint: str) -> bool:
    path = _path(output, item, ".json")
    if not path.is_file():
        return False
    record = read_json(path, limit=LARGE)
    return isinstance(record, dict) and record.get("fingerprint") == fingerprint


def _write(output: Path, item: Item, record: Record, features: dict[str, Tensor]) -> None:
    # Features first: the JSON file says that the item is finished.
    if features:
        with atomic_path(_path(output, item, ".safetensors")) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in features.items()}, temporary)
    with atomic_path(_path(output, item, ".json")) as temporary:
        temporary.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
