"""Canceling works at every call of a progress, however little has passed since the one before."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.mark.parametrize("done", [0, 1, 100_000])
def test_every_call_asks_whether_the_user_cancels(
    pack: ModuleType, host_module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    management, shown = host_module("comfy.model_management"), list[tuple[Any, ...]]()
    monkeypatch.setattr(host_module("comfy.utils"), "PROGRESS_BAR_HOOK", lambda *given, **_: shown.append(given))
    update = importlib.import_module(".nodes.host.progress", pack.__name__).progress(100_000)
    update(0)
    assert shown == [(0, 100_000, None)]
    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        update(done)
    assert len(shown) == 1
    update(100_000, 100_000)
    assert shown[-1] == (100_000, 100_000, None), "the one cancel has been answered"
