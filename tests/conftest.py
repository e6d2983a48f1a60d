"""Fixtures around a real ComfyUI: its folder, and one server with this pack for the whole run."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dev
from tools.comfy_server import ComfyServer

SERVER = "server"
SLOW = ("fuzz", "benchmarks", "core/training")  # they train, or try thousands of files


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--freeze", action="store_true", help="write tests/nodes/frozen_nodes.json anew")
    parser.addoption("--fuzz", type=int, default=1, metavar="N", help="N times as many cases in tests/fuzz")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by what they use, so that `-m "not host and not browser"` needs no marks in the files."""
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        if used & {"host", "host_folder"}:
            item.add_marker("host")
        if "host" in used:
            item.add_marker(pytest.mark.xdist_group(SERVER))
        if "page" in used:
            item.add_marker("browser")
        if any(item.path.is_relative_to(dev.ROOT / "tests" / folder) for folder in SLOW):
            item.add_marker("slow")
    if hasattr(config, "workerinput"):
        # The largest group first, so that the workers come to their ends together.
        items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`, one worker has all tests of the server; the others go to the workers file by file."""
    from xdist.scheduler import LoadGroupScheduling

    class Scheduling(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope = super()._split_scope(nodeid)
            return nodeid.split("::", maxsplit=1)[0] if scope == nodeid else scope

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


def skip_unless_ci(reason: str) -> None:
    """Skip on a developer's machine; in CI nothing may be left out."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def host_folder() -> Path:
    """Folder of the real ComfyUI: COMFYUI_PATH, or the copy that dev.py made."""
    folder = dev.find_host()
    if not (folder / "main.py").is_file():
        skip_unless_ci("no ComfyUI: run `python3 dev.py test`, or set COMFYUI_PATH")
    return folder


@pytest.fixture(scope="session")
def host(host_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A running server with only this pack; its folders are temporary, and its log is `host.log`."""
    base = tmp_path_factory.mktemp("comfyui")
    arguments = [*dev.isolated(base), "--cpu"]
    with ComfyServer(Path(sys.executable), host_folder, *arguments, log=base / "server.log") as server:
        yield server


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What PyTorch counts while it compiles; nothing was compiled before, and its limits are as they were after."""
    import torch._dynamo

    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)  # thousands of records
    limits = torch._dynamo.config
    before = limits.cache_size_limit, limits.accumulated_cache_size_limit
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo.utils.counters
    torch._dynamo.reset()
    limits.cache_size_limit, limits.accumulated_cache_size_limit = before


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser."""
    path = dev.find_chromium()
    if path is None:
        skip_unless_ci("no Chromium: run `python3 dev.py test` as root on Debian, or install it")
    return str(path)
