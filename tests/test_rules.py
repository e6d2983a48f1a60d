"""The rules of this repository that no linter knows: who may import whom, and how long things may be."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOST = re.compile(r"(comfy|comfy_\w+|folder_paths|nodes|server|execution|latent_preview|node_helpers|app|main)(\.|$)")
PUBLIC_HOST = re.compile(r"(comfy_api\.latest|folder_paths)(\.|$)")
PACK = [ROOT / "__init__.py", *sorted(ROOT.glob("i2v_core/**/*.py")), *sorted(ROOT.glob("nodes/**/*.py"))]
SOURCES = [
    *PACK,
    *(path for folder in ("tests", "tools", "benchmarks", "examples") for path in ROOT.glob(f"{folder}/**/*.py")),
]
NODES = [path for path in PACK if "nodes" in path.relative_to(ROOT).parts[:1]]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, as a full dotted name; those of the pack start with a dot."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level]
            start = ".".join(["", *base, *filter(None, [node.module])]) if node.level else str(node.module)
            yield from (f"{start}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PACK, ids=name)
def test_imports_follow_the_layout(path: Path) -> None:
    place, found = name(path), list(imports(path))
    absolute = [module for module in found if re.match(r"(i2v_core|tests|tools|dev)(\.|$)", module)]
    assert not absolute, "inside the pack imports are relative: the host names it after its path"
    if not place.startswith("nodes/host/"):
        allowed = PUBLIC_HOST if place.startswith("nodes/") else re.compile(r"(?!)")
        assert not [m for m in found if HOST.match(m) and not allowed.match(m)], "internals are for nodes/host/"
    for here, there in (
        ("model", "diffusion"),
        ("diffusion", "model"),
        ("metrics", "model"),
        ("video", "model"),
    ):
        if place.startswith(f"i2v_core/{here}/"):
            assert not [m for m in found if m.startswith(f".i2v_core.{there}")], f"{here} never imports {there}"
    if place.startswith("i2v_core/"):
        assert not [m for m in found if m.startswith(".nodes")], "the core does not know the nodes"


def test_packages_of_the_core_form_no_circle() -> None:
    """Packages and files at the top of `i2v_core`, by all of their imports, also those within functions."""
    core = [path for path in PACK if name(path).startswith("i2v_core/") and name(path) != "i2v_core/__init__.py"]
    packages = {path: name(path).split("/")[1].removesuffix(".py") for path in core}
    needs: dict[str, set[str]] = {package: set() for package in packages.values()}
    for path, here in packages.items():
        found = {module.split(".")[2] for module in imports(path) if module.startswith(".i2v_core.")}
        # What the package itself offers comes from `weights`.
        needs[here] |= {there if there in needs else "weights" for there in found} - {here}
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle


def test_the_nodes_join_methods_as_the_core_defines_it() -> None:
    """Who wraps the network for a method asks the method's hooks; what is added is summed up in one place."""
    for path in NODES:
        text, found = path.read_text(encoding="utf-8"), list(imports(path))
        if re.search(r"add_wrapper_with_key\(\s*(kind|WrappersMP\.DIFFUSION_MODEL)", text):
            assert [m for m in found if m.startswith(".i2v_core.methods.")], f"{name(path)} goes past the methods"
        assert not [m for m in found if re.match(r"\.i2v_core\.(denoiser|sampling|generate)\.", m)]


@pytest.mark.parametrize("path", PACK, ids=name)
def test_hosts_are_told_apart_by_what_they_can_do(path: Path) -> None:
    """Never by their version, which says nothing of forks and of what a user patched."""
    text = path.read_text(encoding="utf-8")
    asked = re.findall(r"comfyui_version|__comfyui|packaging\.version|parse_version|importlib\.metadata", text)
    assert not asked, "ask for the feature with hasattr, vars or inspect.signature, in nodes/host/"


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "dev.py"], ids=name)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", [*PACK, ROOT / "dev.py"], ids=name)
def test_functions_stay_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            limit = 40 if path in NODES and node.name == "execute" else 60
            length = node.end_lineno - node.body[0].lineno + 1
            assert length <= limit, f"{node.name} has {length} lines, at most {limit} are allowed"
