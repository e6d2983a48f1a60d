"""The host's output files, the metadata it embeds in them, and which of a node's outputs are read."""

import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args

from .paths import DEVICE, checked_prefix

logger = logging.getLogger(__name__)

_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')  # by Windows
_DATE = {"d": "%d", "M": "%m", "h": "%H", "m": "%M", "s": "%S", "y": "%Y"}
_said: set[str] = set()


@dataclass(frozen=True)
class OutputFile:
    """A file name reserved in the host's output or temp folder, in the parts that the interface asks for."""

    path: Path
    subfolder: str
    type: str

    def item(self, shown: Path, **extra: object) -> dict[str, object]:
        """Return the entry that the interface and API clients read to find the file, or one in it if it is a folder."""
        inside = shown.relative_to(self.path.parent).parent
        subfolder = Path(self.subfolder, inside).as_posix() if inside.parts else self.subfolder
        return {"filename": shown.name, "subfolder": subfolder, "type": self.type, **extra}


def output_file(prefix: str, extension: str, *, height: int, width: int, temporary: bool) -> OutputFile:
    """Return the next free name for a prefix such as `I2V/clip`, and make its folder.

    Characters that Windows forbids become underscores, so that a workflow names its files alike everywhere.

    Raises:
        ValueError: the prefix names no file below that folder, or one that is too long.
        OSError: the folder cannot be made or read.
    """
    root = folder_paths.get_temp_directory() if temporary else folder_paths.get_output_directory()
    name = checked_prefix(_safe(prefix), "filename_prefix", root)
    try:
        folder, stem, counter, subfolder, _ = folder_paths.get_save_image_path(name, root, width, height)
    except OSError as error:
        raise OSError(
            f"Cannot use the folder '{Path(root, name).parent}': {error.strerror}. "
            "Check its rights and the free space, or choose another filename_prefix."
        ) from error
    path = Path(folder, f"{stem}_{counter:05}_{extension}").absolute()
    return OutputFile(path, subfolder, "temp" if temporary else "output")


def filled_in(prefix: str, prompt: Any, extra: Mapping[str, Any] | None) -> str:
    """Fill in `%date:yyyy-MM-dd%` and `%Node.widget%`, which the front end does for the host's own nodes only.

    Args:
        prompt: the graph in API form. extra: what came with it, above all the `workflow`, which knows titles.
    """

    def value(found: re.Match[str]) -> str:
        kind, _, rest = found[1].partition(":")
        if kind == "date" and rest:
            return _date(rest)
        title, _, widget = found[1].rpartition(".")
        inputs = _inputs_of(title, prompt or {}, (extra or {}).get("workflow")) if title else {}
        if widget not in inputs or isinstance(inputs[widget], list | dict):
            return found[0]
        return re.sub(r"[/\\]", "_", str(inputs[widget]))

    return re.sub(r"%([^%]+)%", value, prefix)


def embedded_metadata(prompt: object, extra: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what to store in a file so that dropping it on the canvas restores the graph: JSON by key.

    Args:
        prompt: the graph in API form; the extra entries (above all `workflow`) are None in headless runs.
    """
    if args.disable_metadata:
        return {}
    stored = dict(extra or {}) | ({} if prompt is None else {"prompt": prompt})
    return {key: json.dumps(value) for key, value in stored.items()}


def is_linked(prompt: Any, node: str | None, slot: int) -> bool:
    """An output of a node is connected in a graph in API form; true where that cannot be told."""
    if not isinstance(prompt, Mapping) or node not in prompt:
        return True
    return (node, slot) in _links(prompt)


def running_links(kind: str) -> list[tuple[str, int]]:
    """The connected outputs of all nodes of this kind in the graph that runs now."""
    from server import PromptServer  # not at import: without a server there is none

    queue = getattr(getattr(PromptServer, "instance", None), "prompt_queue", None)
    prompts = [] if queue is None else [item[2] for item in list(queue.currently_running.values())]
    return sorted(
        link for prompt in prompts for link in _links(prompt) if prompt.get(link[0], {}).get("class_type") == kind
    )


def _links(prompt: Mapping[str, Any]) -> set[tuple[str, int]]:
    values = [value for node in prompt.values() for value in node.get("inputs", {}).values()]
    pairs = [value for value in values if isinstance(value, list) and len(value) == 2]
    return {(node, slot) for node, slot in pairs if isinstance(node, str) and isinstance(slot, int)}


def _date(form: str) -> str:
    """The time now, in the letters of the front end: y, M, d, h, m, s, each as often as it has digits."""
    now = time.localtime()

    def part(found: re.Match[str]) -> str:
        letter, digits = found[0][0], len(found[0])
        text = time.strftime(_DATE[letter], now)
        return text[-2:] if letter == "y" and digits == 2 else text if digits > 1 else text.lstrip("0") or "0"

    return re.sub(r"d{1,2}|M{1,2}|h{1,2}|m{1,2}|s{1,2}|y{2,4}", part, form)


def _inputs_of(title: str, prompt: Mapping[str, Any], workflow: Any) -> Mapping[str, Any]:
    """Inputs of the node that is called so: by the name that it searches under, then by its title, then by its kind."""
    drawn = workflow.get("nodes", []) if isinstance(workflow, Mapping) else []
    named = [node for node in drawn if (node.get("properties") or {}).get("Node name for S&R") == title]
    named = named or [node for node in drawn if node.get("title") == title]
    found = [str(node.get("id")) for node in named]
    found += [key for key, node in prompt.items() if (node.get("_meta") or {}).get("title") == title]
    found += [key for key, node in prompt.items() if node.get("class_type") == title]
    inputs: Mapping[str, Any] = next((prompt[key].get("inputs", {}) for key in found if key in prompt), {})
    return inputs


def _safe(prefix: str) -> str:
    """The prefix with names that every system takes; full paths stay as they are, to be refused."""
    if re.match(r"[/\\]|[A-Za-z]:[/\\]", prefix):
        return prefix
    safe = "/".join(map(_safe_name, re.split(r"[/\\]", prefix)))
    if safe != prefix and prefix not in _said:
        _said.add(prefix)
        logger.info("The file is called '%s': some systems do not take '%s'.", safe, prefix)
    return safe


def _safe_name(name: str) -> str:
    if not name.strip(". "):
        return name
    kept = _FORBIDDEN.sub("_", name).rstrip(". ")
    return f"_{kept}" if DEVICE.fullmatch(kept.partition(".")[0].rstrip()) else kept
