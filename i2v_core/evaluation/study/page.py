"""The page of a study as one HTML file, and the key that tells its clips apart, which stays with the organizer."""

import base64
import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...files import atomic_path
from ...video import read_picture, to_rgb
from ..items import Item
from ..report import EMBED_ALL, EMBED_ONE
from .design import LEVELS, StudyConfig, Trial, clip_id, list_trials, plan

TEMPLATE = Path(__file__).with_name("page.html")
PAGE, KEY, CLIPS = "study.html", "study_key.json", "study_clips"
IMAGE_SIDE = 320
TYPES = {".mp4": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm", ".mkv": "video/x-matroska"}


def write_study(items: Sequence[Item], labels: Sequence[str], config: StudyConfig, output: Path) -> Path:
    """Write `study.html` for the raters and `study_key.json` for the one who reads their answers.

    Small videos are kept inside the page; if together they are too large, all lie in `study_clips` beside it, under
    names that do not tell who made them.

    Returns:
        The path of the page.

    Raises:
        ValueError: there is nothing to compare, or a given image cannot be read.
    """
    trials = list_trials(config.kind, [item.name for item in items], labels)
    plans = plan(trials, config)
    clips = {clip_id(config, label, item.name): (label, item) for item in items for label in labels}
    key: dict[str, Any] = {
        "kind": config.kind, "questions": config.asked, "labels": list(labels),
        "clips": {name: {"label": label, "item": item.name} for name, (label, item) in clips.items()},
        "plans": [[{"trial": s.trial, "clips": _ids(config, trials, s.trial, s.labels)} for s in p] for p in plans],
    }  # fmt: skip
    places = {item.name: str(i) for i, item in enumerate(items)}
    study = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    told = {"study": study} | {name: key[name] for name in ("kind", "questions")}
    told |= {
        "levels": LEVELS,
        "items": {str(i): {"caption": item.caption, "image": _image(item)} for i, item in enumerate(items)},
        "clips": _sources({name: item.videos[label] for name, (label, item) in clips.items()}, output),
        "plans": [[shown | {"item": places[trials[shown["trial"]].item]} for shown in p] for p in key["plans"]],
    }
    _write(output / KEY, json.dumps({"study": study} | key, indent=1) + "\n")
    # A closing tag inside a caption would end the script.
    page = TEMPLATE.read_text(encoding="utf-8").replace("@STUDY@", json.dumps(told).replace("<", "\\u003c"))
    _write(output / PAGE, page)
    return output / PAGE


def _ids(config: StudyConfig, trials: Sequence[Trial], trial: int, labels: Sequence[str]) -> list[str]:
    return [clip_id(config, label, trials[trial].item) for label in labels]


def _sources(videos: dict[str, Path], output: Path) -> dict[str, str]:
    """Sources of the videos for the page: all inside itself, or all beside it, so that none tells its maker."""
    sizes = [path.stat().st_size for path in videos.values()]
    if max(sizes) <= EMBED_ONE and sum(sizes) <= EMBED_ALL:
        return {
            name: f"data:{TYPES[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode()}"
            for name, path in videos.items()
        }
    (output / CLIPS).mkdir(parents=True, exist_ok=True)
    sources = {}
    for name, path in videos.items():
        copy = output / CLIPS / f"{name}{path.suffix.lower()}"
        shutil.copyfile(path, copy)
        sources[name] = f"{CLIPS}/{copy.name}"
    return sources


def _image(item: Item) -> str | None:
    from PIL import Image

    if item.image is None:
        return None
    small = Image.fromarray(to_rgb(read_picture(item.image)).numpy())
    small.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=92)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
