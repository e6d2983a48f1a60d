"""Widgets that several nodes have."""

from dataclasses import fields
from typing import Any, TypeVar

from comfy_api.latest import io

Widget = TypeVar("Widget")


def advanced(widget: Widget) -> Widget:
    """Fold a rarely used widget away; host 0.3.75 has no such argument, but passes the entry on."""
    widget.extra_dict["advanced"] = True  # type: ignore[attr-defined]
    return widget


def share(name: str, default: float, tooltip: str) -> io.Float.Input:
    """A number from 0 to 1."""
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip)


def search_aliases(*words: str) -> dict[str, Any]:
    """Further words by which the host's search finds a node, for `io.Schema`; nothing on a host that knows none."""
    known = {field.name for field in fields(io.Schema)}
    return {"search_aliases": list(words)} if "search_aliases" in known else {}
