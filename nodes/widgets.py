"""Widgets that several nodes have."""

from typing import TypeVar

from comfy_api.latest import io

Widget = TypeVar("Widget")


def advanced(widget: Widget) -> Widget:
    """Fold a rarely used widget away; host 0.3.75 has no such argument, but passes the entry on."""
    widget.extra_dict["advanced"] = True  # type: ignore[attr-defined]
    return widget


def share(name: str, default: float, tooltip: str) -> io.Float.Input:
    """A number from 0 to 1."""
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip)
