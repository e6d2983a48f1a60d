"""The pack inside this process, loaded as the host loads it."""

import asyncio
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dev


@pytest.fixture(scope="session")
def pack(host_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The pack's root module, under the name that the host gives it: its path.

    Its classes are not those of an absolute `i2v_core`: reach them through
    `importlib.import_module(".i2v_core.shapes", pack.__name__)`.
    """
    # In front, because our own `nodes` would otherwise hide the host's.
    sys.path.insert(0, str(host_folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the host's own are not ours to mend
        import comfy.cli_args
        import torch

        comfy.cli_args.args.cpu = not torch.cuda.is_available()
        import folder_paths

        import nodes as host_nodes

        assert Path(host_nodes.__file__).parent == host_folder
        import comfy_api.latest  # noqa: F401
    for kind in ("output", "temp", "input"):
        getattr(folder_paths, f"set_{kind}_directory")(str(tmp_path_factory.mktemp(kind)))
    name = str(dev.ROOT).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, dev.ROOT / "__init__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def node_classes(pack: ModuleType) -> dict[str, Any]:
    """The pack's node classes by node id."""

    async def listed() -> list[Any]:
        return list(await (await pack.comfy_entrypoint()).get_node_list())

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(listed())}
