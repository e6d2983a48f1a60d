"""The archive that the registry hands out: no more than users need, at home under any name, without a network."""

import json

import dev
from i2v_core.video import read_video
from tests.release.conftest import ArchiveServer

FROZEN = json.loads((dev.ROOT / "tests/nodes/frozen_nodes.json").read_text(encoding="utf-8"))


def test_it_holds_what_users_need_and_nothing_for_developers(archive_files: list[str]) -> None:
    folders = {name.split("/")[0] for name in archive_files}
    assert not folders & {"tests", "benchmarks", "tools", ".ci", "dev.py", "CONTRIBUTING.md", "comfy-test.toml"}
    assert folders >= {"__init__.py", "LICENSE", "README.md", "pyproject.toml", "requirements.txt", "i2v_core", "nodes"}
    assert folders >= {"workflows", "web", "demo"}
    assert sum((dev.ROOT / name).stat().st_size for name in archive_files) < 48e6


def test_the_ignored_names_exist_or_are_made_by_tools() -> None:
    made = {".venv/", ".comfyui/", "output/", "__pycache__/", "*.egg-info/", "build/", "runs/"}
    made |= {".mypy_cache/", ".pytest_cache/", ".ruff_cache/"}
    lines = (dev.ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    names = {line for line in lines if line and not line.startswith("#")}
    assert not [name for name in names - made if not (dev.ROOT / name).exists()]


def test_all_nodes_appear_under_another_name_beside_a_pack_with_modules_of_the_same_names(
    archive_host: ArchiveServer,
) -> None:
    mine = {key: info for key, info in archive_host.server.object_info().items() if key.startswith("I2V")}
    assert mine.keys() == FROZEN.keys()
    assert {info["python_module"] for info in mine.values()} == {f"custom_nodes.{archive_host.name}"}
    assert "IMPORT FAILED" not in archive_host.log.read_text(encoding="utf-8", errors="replace")


def test_help_pages_and_templates_are_served_under_that_name(archive_host: ArchiveServer) -> None:
    page = archive_host.server.read(f"/extensions/{archive_host.name}/docs/I2VCombineVideo.md")
    assert page == (dev.ROOT / "web/docs/I2VCombineVideo.md").read_bytes()
    templates = archive_host.server.get("/workflow_templates")[archive_host.name]
    assert sorted(templates) == sorted(path.stem for path in (dev.ROOT / "workflows").glob("*.json"))


def test_the_demo_workflow_runs_and_nothing_of_ours_asks_for_the_network(archive_host: ArchiveServer) -> None:
    server = archive_host.server
    graph = json.loads((dev.ROOT / "workflows/api/animate_image.json").read_text(encoding="utf-8"))
    picture = server.upload(dev.ROOT / "demo/images/chelsea.jpg")
    outputs = server.run(dev.edit_graph(graph, image=picture, frames=4, steps=2), seconds=300)["outputs"]
    (item,) = [item for output in outputs.values() for item in output["images"]]
    path = archive_host.log.parent / "fetched.mp4"
    path.write_bytes(server.view(item))
    assert len(read_video(path).frames) == 4
    attempts = archive_host.attempts.read_text() if archive_host.attempts.exists() else ""
    assert archive_host.name not in attempts, attempts
