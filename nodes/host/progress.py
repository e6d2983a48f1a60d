"""Progress on a node, with which the host's cancel button ends long work."""

from collections.abc import Callable
from typing import Any

import comfy.model_management
from comfy.utils import ProgressBar


def progress(total: int) -> Callable[..., None]:
    """Return a callback for how much of `total` is done, a new total, and a picture; it raises when the user cancels.

    Every call asks, because the bar of hosts of 2026 does so only when half a percent has passed.
    """
    bar = ProgressBar(total)

    def update(done: int, total: int | None = None, picture: Any = None) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total, picture)

    return update
