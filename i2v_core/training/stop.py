"""Ending a run early so that it can be resumed: by a signal, or by whoever watches it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator


class TrainingCanceled(Exception):
    """A run was ended on purpose, after a checkpoint."""


class Stop:
    """Request to end a run after the present step; all processes of a run end at the same one."""

    def __init__(self, accelerator: "Accelerator") -> None:
        self._accelerator, self._reason = accelerator, ""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as the wish to end; only the main thread of a program can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self._signaled) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def check(self, watch: Callable[[], None]) -> None:
        """Ask the watcher, who may raise TrainingCanceled; raise it in all processes if one of them wants to end."""
        try:
            watch()
        except TrainingCanceled as canceled:
            self._reason = str(canceled) or "canceled"
        if self._reason:
            self._accelerator.set_trigger()
        if self._accelerator.check_trigger():
            raise TrainingCanceled(self._reason or "canceled in another process")

    def _signaled(self, number: int, _: Any) -> None:
        self._reason = f"ended by {signal.Signals(number).name}"
