"""The levels of comfy-test, by their own names, without its installation of everything from a network.

| level | here |
|---|---|
| syntax, coverage, registration, validation | below |
| install | `test_metadata.py`: nothing is installed; `test_archive.py`: the archive runs as it is unpacked |
| instantiation | `tests/nodes/test_instantiation.py` |
| static capture | `tests/browser/test_workflows_load.py`: every workflow in the real front end, with a screenshot |
| execution | `tests/workflows/`: every workflow on the real server; below, that none is forgotten |
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dev
from tools.comfy_server import ComfyServer

WORKFLOWS = sorted((dev.ROOT / "workflows/api").glob("*.json"))
FROZEN = json.loads((dev.ROOT / "tests/nodes/frozen_nodes.json").read_text(encoding="utf-8"))
DEVICES = r"\.cuda\s*\(|\.to\s*\(\s*(torch\.device\s*\(\s*)?[\"']cuda"
LAYERS = r"(?<![\w.])(torch\.)?nn\.(Linear|Conv[123]d|ConvTranspose[12]d|LayerNorm|GroupNorm|Embedding)\s*\("
AUTOCAST = r"torch\.autocast\s*\(|torch\.(cuda\.)?amp\.autocast"


def sources(names: list[str]) -> Iterator[tuple[str, str]]:
    """Name and text of every Python file in the archive."""
    for name in names:
        if name.endswith(".py"):
            yield name, (dev.ROOT / name).read_text(encoding="utf-8")


def graph(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_syntax_every_source_can_be_shown_on_windows(archive_files: list[str]) -> None:
    for name, text in sources(archive_files):
        text.encode("cp1252")
        assert "\ufffd" not in text, name


def test_syntax_devices_and_precision_are_the_hosts_choice(archive_files: list[str]) -> None:
    for name, text in sources(archive_files):
        assert not re.search(DEVICES, text), name
        # Training runs without a host, whose layers choose the precision otherwise.
        if not name.startswith("i2v_core/training/"):
            assert not re.search(AUTOCAST, text), name


def test_syntax_layers_come_from_the_hosts_operations(archive_files: list[str]) -> None:
    for name, text in sources(archive_files):
        assert not re.search(LAYERS, text), name


def test_coverage_every_node_is_used_by_a_workflow() -> None:
    used = {node["class_type"] for path in WORKFLOWS for node in graph(path).values()}
    assert set(FROZEN) <= used


def test_registration_every_node_and_no_import_error(host: ComfyServer) -> None:
    assert host.log is not None
    assert "IMPORT FAILED" not in host.log.read_text(encoding="utf-8", errors="replace")
    registered = {key for key in host.object_info() if key.startswith("I2V")}
    assert registered == set(FROZEN)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_validation_links_fit_and_values_are_in_range(host: ComfyServer, path: Path) -> None:
    """As the host would say, but for files of models and pictures, which it wants to see first."""
    known, nodes = host.object_info(), graph(path)
    for number, node in nodes.items():
        info = known[node["class_type"]]["input"]
        inputs = {**info.get("required", {}), **info.get("optional", {})}
        assert set(info.get("required", {})) <= set(node["inputs"]), f"{number}: an input is missing"
        unknown = node["inputs"].keys() - inputs.keys()
        assert not unknown or not node["class_type"].startswith("I2V"), "the front end adds some to the host's nodes"
        for name, value in ((name, value) for name, value in node["inputs"].items() if name in inputs):
            kind, options = inputs[name][0], (*inputs[name], {})[1]
            if isinstance(value, list):
                source = known[nodes[value[0]]["class_type"]]["output"][value[1]]
                wanted = "COMBO" if isinstance(kind, list) else kind
                assert "*" in (wanted, source) or set(str(source).split(",")) & set(wanted.split(",")), (number, name)
            elif kind in ("INT", "FLOAT"):
                assert options.get("min", -1e18) <= value <= options.get("max", 1e20), (number, name)
            elif isinstance(kind, list) or kind == "COMBO":
                choices = kind if isinstance(kind, list) else options["options"]
                is_file = isinstance(value, str) and Path(value).suffix
                assert value in choices or is_file, (number, name)


def test_execution_every_workflow_is_run_by_a_test() -> None:
    tests = [*dev.ROOT.glob("tests/workflows/test_*.py"), *dev.ROOT.glob("tests/nodes/test_*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in tests)
    assert [path.stem for path in WORKFLOWS if not re.search(rf"\b{path.stem}\b", text)] == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs the TOML parser of Python 3.11")
def test_the_configuration_names_workflows_that_exist() -> None:
    import tomllib

    test = tomllib.loads((dev.ROOT / "comfy-test.toml").read_text(encoding="utf-8"))["test"]
    for name in test["workflows"]["cpu"]:
        assert (dev.ROOT / "workflows" / name).is_file()
