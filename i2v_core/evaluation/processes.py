"""Sharing work between processes and machines through accelerate; with one process there is nothing to share."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

T = TypeVar("T")


class Processes:
    """This process among those that `accelerate launch` or `torchrun` started; alone otherwise."""

    def __init__(self, device: str) -> None:
        """Join the others; raises ValueError if there are others and accelerate is missing."""
        self._state: Any = None
        self.device = device
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import PartialState
            except ImportError as error:
                raise ValueError('Several processes need accelerate: run `pip install ".[evaluate]"`.') from error
            self._state = PartialState(cpu=device == "cpu")
            self.device = str(self._state.device) if device == "cuda" else device

    @property
    def is_main(self) -> bool:
        return self._state is None or bool(self._state.is_main_process)

    def share(self, work: Sequence[T]) -> Any:
        """Context manager that gives this process its part of the work, the same in every process."""
        return nullcontext(work) if self._state is None else self._state.split_between_processes(list(work))

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def close(self) -> None:
        """Leave the others; a process must not end while they still talk to it."""
        if self._state is not None:
            self._state.wait_for_everyone()
            self._state.destroy_process_group()
