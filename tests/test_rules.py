"""The rules of this repository that no linter knows: who may import whom, and how long things may be."""

import ast
import re
from collections.abc import Callable, Iterable
from functools import cache
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


DIRECTIONS = (("model", "diffusion"), ("diffusion", "model"), ("metrics", "model"), ("video", "model"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> list[str]:
    """Every module that a file imports, as a full dotted name; those of the pack start with a dot."""
    package, found = path.relative_to(ROOT).parent.parts, []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level]
            start = ".".join(["", *base, *filter(None, [node.module])]) if node.level else str(node.module)
            found += [f"{start}.{alias.name}" for alias in node.names]
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def broken(paths: Iterable[Path], rule: Callable[[Path], bool]) -> list[str]:
    """Every file for which a rule does not hold: one test a rule, because a test a file costs more than the rule."""
    return [name(path) for path in paths if not rule(path)]


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
    """Who wraps the network for a method asks the method's hooks, and no node goes through the core's sampling."""
    wraps = re.compile(r"add_wrapper_with_key\(\s*(kind|WrappersMP\.DIFFUSION_MODEL)")
    methods, past = re.compile(r"\.i2v_core\.methods\."), re.compile(r"\.i2v_core\.(denoiser|sampling|generate)\.")
    wrapping = [path for path in NODES if wraps.search(path.read_text(encoding="utf-8"))]
    assert len(wrapping) > 3
    assert broken(wrapping, lambda path: any(map(methods.match, imports(path)))) == []
    assert broken(NODES, lambda path: not any(map(past.match, imports(path)))) == []


def test_inside_the_pack_imports_are_relative() -> None:
    """The host names the pack after its path."""
    absolute = re.compile(r"(i2v_core|tests|tools|dev)(\.|$)")
    assert broken(PACK, lambda path: not any(map(absolute.match, imports(path)))) == []


def test_internals_of_the_host_are_for_nodes_host() -> None:
    def kept(path: Path) -> bool:
        allowed = PUBLIC_HOST if name(path).startswith("nodes/") else re.compile(r"(?!)")
        return not [m for m in imports(path) if HOST.match(m) and not allowed.match(m)]

    assert broken((path for path in PACK if not name(path).startswith("nodes/host/")), kept) == []


@pytest.mark.parametrize(("here", "there"), DIRECTIONS)
def test_folders_of_the_core_that_never_import_each_other(here: str, there: str) -> None:
    inside = [path for path in PACK if name(path).startswith(f"i2v_core/{here}/")]
    assert inside
    assert broken(inside, lambda path: not [m for m in imports(path) if m.startswith(f".i2v_core.{there}")]) == []


def test_the_core_does_not_know_the_nodes() -> None:
    core = [path for path in PACK if name(path).startswith("i2v_core/")]
    assert broken(core, lambda path: not [m for m in imports(path) if m.startswith(".nodes")]) == []


def test_hosts_are_told_apart_by_what_they_can_do() -> None:
    """Never by their version, which says nothing of forks and of what a user patched."""
    asked = re.compile(r"comfyui_version|__comfyui|packaging\.version|parse_version|importlib\.metadata")
    # Ask for the feature with hasattr, vars or inspect.signature, in nodes/host/.
    assert broken(PACK, lambda path: not asked.search(path.read_text(encoding="utf-8"))) == []


def test_files_stay_short() -> None:
    sources = [*SOURCES, ROOT / "dev.py"]
    assert broken(sources, lambda path: len(path.read_text(encoding="utf-8").splitlines()) <= 400) == []


def test_functions_stay_short() -> None:
    """At most 60 lines, and a node's `execute` at most 40."""
    long = []
    for path in [*PACK, ROOT / "dev.py"]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                limit = 40 if path in NODES and node.name == "execute" else 60
                length = node.end_lineno - node.body[0].lineno + 1
                long += [f"{name(path)}: {node.name} has {length} lines of {limit}"] if length > limit else []
    assert long == []
