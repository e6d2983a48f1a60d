"""The server client against a real server, with the host's own nodes."""

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from tools.comfy_server import ComfyServer, Graph, ServerError, failure, refusal


def copy_image(name: str) -> Graph:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "copy"}},
    }


def test_an_uploaded_image_comes_back_through_a_workflow(host: ComfyServer, tmp_path: Path) -> None:
    Image.new("RGB", (24, 16), (200, 30, 60)).save(tmp_path / "red.png")
    entry = host.run(copy_image(host.upload(tmp_path / "red.png")), seconds=60)
    saved = Image.open(io.BytesIO(host.view(entry["outputs"]["2"]["images"][0])))
    assert saved.size == (24, 16)
    assert saved.getpixel((0, 0)) == (200, 30, 60)


def test_a_refused_workflow_names_node_and_input(host: ComfyServer) -> None:
    with pytest.raises(ServerError, match=r"LoadImage \(node 1\).*absent\.png"):
        host.run(copy_image("absent.png"), seconds=60)


def test_an_unknown_node_is_named(host: ComfyServer) -> None:
    with pytest.raises(ServerError, match="NoSuchNode"):
        host.run({"1": {"class_type": "NoSuchNode", "inputs": {}}}, seconds=60)


def test_a_failing_node_is_named_and_the_next_run_succeeds(host: ComfyServer, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"this is no image")
    with pytest.raises(ServerError, match=r"^LoadImage \(node 1\): cannot identify image file"):
        host.run(copy_image(host.upload(tmp_path / "broken.png")), seconds=60)
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    assert failure(host.run(copy_image(host.upload(tmp_path / "good.png")), seconds=60)) is None


def test_refusal_without_nodes_is_the_error_itself() -> None:
    assert refusal({"error": {"message": "Prompt has no outputs"}, "node_errors": {}}) == "Prompt has no outputs"


def test_an_interrupted_run_is_a_failure() -> None:
    entry = {"status": {"status_str": "error", "messages": [["execution_interrupted", {}]]}}
    assert failure(entry) == "The run ended as error."


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("raise SystemExit('no room')")
    server = ComfyServer(Path(sys.executable), tmp_path, log=tmp_path / "log")
    with pytest.raises(ServerError, match=r"(?s)exit code 1.*no room"), server:
        pass
