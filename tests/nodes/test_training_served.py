"""Training on a running server: every method on 20 video files, its result in its node, cancel, and going on."""

import io
import json
import pickle
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dev
from i2v_core.data.moving_crops import MovingCrops, MovingCropsConfig
from i2v_core.training.checkpoint_files import checkpoints
from i2v_core.training.lock import only_one
from i2v_core.training.log import read_log, read_progress
from i2v_core.video import clip_to_frames, write_video
from i2v_core.weights import read_adapter
from tools.comfy_server import ComfyServer, ServerError, failure

SMALL = "[data]\nframes = 4\nframe_stride = 1\n[logging]\nplan_steps = 0\n[validation]\nnum_inference_steps = 1\n"
MODEL, IMAGE_MODEL = "i2v_demo.safetensors", "i2v_demo_image.safetensors"
# Base, workflow, the node that decodes, and what else the configuration says.
METHODS: dict[str, tuple[str, str, str, str]] = {
    "look_back": (IMAGE_MODEL, "long_video_lookback", "10", ""),
    "trip": (MODEL, "animate_trip", "10", ""),
    "image_retention": (MODEL, "animate_retention", "9", ""),
    "dynamicrafter": (MODEL, "animate_image_projection", "10", "[method.options]\nencoder_steps = 1\n"),
}


@pytest.fixture(scope="module")
def clips(host: ComfyServer) -> Path:
    """20 real mp4 files with captions, below the server's input folder."""
    assert host.log is not None
    folder, data = host.log.parent / "input/my clips", MovingCrops(MovingCropsConfig(frames=6))
    folder.mkdir(parents=True)
    for number in range(20):
        clip = data.clip(number)
        write_video(folder / f"clip {number}.mp4", clip_to_frames(clip.pixels), 8)
        (folder / f"clip {number}.txt").write_text(clip.caption)
    return folder


@pytest.fixture(scope="module")
def train(host: ComfyServer, clips: Path) -> Callable[..., dict[str, Any]]:
    """The graph of a training alone."""

    def graph(method: str, **inputs: Any) -> dict[str, Any]:
        base, _, _, further = METHODS[method]
        values = {"method": method, "checkpoint": base, "data": clips.name, "steps": 2, "batch_size": 1}
        values |= {"learning_rate": 0.001, "preview_every": 0, "output_name": f"my {method}", "config": SMALL + further}
        return {"1": {"class_type": "I2VTrainAdapter", "inputs": {**values, "dry_run": False, **inputs}}}

    return graph


def run_folder(host: ComfyServer, name: str) -> Path:
    assert host.log is not None
    return host.log.parent / "output/i2v_training" / name


def frames(host: ComfyServer, graph: dict[str, Any], decoded: str) -> np.ndarray:
    (writer,) = [key for key, node in graph.items() if node["class_type"] == "I2VCombineVideo"]
    graph[writer] = {"class_type": "SaveImage", "inputs": {"images": [decoded, 0], "filename_prefix": "trained"}}
    items = host.run(graph, seconds=600)["outputs"][writer]["images"]
    return np.stack([np.array(Image.open(io.BytesIO(host.view(item)))) for item in items]).astype(float)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_on_files_and_its_node_animates_with_the_result(
    host: ComfyServer, train: Callable[..., dict[str, Any]], method: str
) -> None:
    _, workflow, decoded, _ = METHODS[method]
    preview = 2 if method == "look_back" else 0
    output = host.run(train(method, preview_every=preview), seconds=600)["outputs"]["1"]
    assert f"{method}: 2 steps of 1 clips" in output["text"][0]
    if preview:
        (item,) = output["images"]
        assert host.view(item)[4:8] == b"ftyp"
    name, folder = f"my {method}.safetensors", run_folder(host, f"my {method}")
    assert name in host.object_info()["I2VLoadAdapter"]["input"]["required"]["adapter"][1]["options"]
    contents = read_adapter(folder / name)
    assert "files" in contents.metadata["i2v.train_config"]
    assert contents.metadata["i2v.train_steps"] == "2"

    image = host.upload(dev.ROOT / "demo/images/chelsea.jpg")
    graph = json.loads((dev.ROOT / f"workflows/api/{workflow}.json").read_text())
    graph = dev.edit_graph(graph, image=image, frames=4, steps=4)
    for node in graph.values():
        if node["class_type"] == "I2VLoadAdapter":
            node["inputs"]["adapter"] = name
        if "frames_at_once" in node["inputs"]:
            node["inputs"]["frames_at_once"] = 0
    video = frames(host, graph, decoded)
    assert video.shape == (4, 64, 64, 3)
    assert all(np.abs(now - before).mean() > 0.5 for before, now in pairwise(video)), "it moves"


def test_cancel_leaves_a_state_to_go_on_from(host: ComfyServer, train: Callable[..., dict[str, Any]]) -> None:
    folder = run_folder(host, "canceled")
    graph = train("look_back", steps=100_000, output_name="canceled")
    number = host.submit(graph)
    deadline = time.monotonic() + 300
    while (progress := read_progress(folder)) is None or progress.step < 1:
        assert time.monotonic() < deadline and number not in host.get(f"/history/{number}")
        time.sleep(0.2)
    with pytest.raises(ValueError, match="another training runs in"), only_one(folder):
        pass
    host.post("/interrupt", {})
    entry = host.wait(number, seconds=120)
    assert "execution_interrupted" in [kind for kind, _ in entry["status"]["messages"]]
    progress = read_progress(folder)
    assert progress is not None and progress.state == "canceled"
    assert [path.name for path in checkpoints(folder)] == [f"checkpoint-{progress.step:06d}"]
    with only_one(folder):  # nothing runs there any more
        pass

    further = train("look_back", steps=progress.step + 1, output_name="canceled")
    assert failure(host.wait(host.submit(further), seconds=300)) is None
    assert read_log(folder)[-1]["step"] == progress.step + 1
    assert f"going on from step {progress.step}" in (folder / "train.log").read_text()


def test_a_failing_training_ends_in_one_sentence(host: ComfyServer, train: Callable[..., dict[str, Any]]) -> None:
    graph = train("trip", output_name="failing", config="[method.adapter]\nposition = 'nowhere'")
    with pytest.raises(ServerError, match=r"^I2VTrainAdapter \(node 1\): .*position.*$"):
        host.run(graph, seconds=300)


def snapshot(host: ComfyServer) -> dict[str, tuple[int, int]]:
    """Every file and folder of the server's, with size and time."""
    assert host.log is not None
    paths = [path for path in host.log.parent.rglob("*") if path != host.log and "comfyui.db" not in path.name]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()}


@pytest.mark.parametrize("method", ["look_back", "dynamicrafter"])
def test_a_dry_run_tells_the_plan_and_writes_nothing(
    host: ComfyServer, train: Callable[..., dict[str, Any]], method: str
) -> None:
    graph, before = train(method, output_name="planned", dry_run=True), snapshot(host)
    (plan,) = host.run(graph, seconds=300)["outputs"]["1"]["text"]
    assert "20 clips" in plan and "steps:   2 of 1 clips" in plan
    assert snapshot(host) == before


class Payload:
    """What a pickle of a stranger does when it is opened: it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def planted(host: ComfyServer, tmp_path: Path) -> Iterator[tuple[Callable[[str, str], None], Path]]:
    """Plants a checkpoint that would make a marker file, through the host's own upload route; and that file."""
    marker, names = tmp_path / "code ran", ("custom_checkpoint_0.pkl", "optimizer.bin", "random_states_0.pkl")
    for name in names:
        (tmp_path / name).write_bytes(pickle.dumps(Payload(marker)))
    pickle.loads((tmp_path / names[0]).read_bytes())
    assert marker.exists(), "the bait works"
    marker.unlink()

    def plant(kind: str, subfolder: str) -> None:
        for name in names:
            host.upload(tmp_path / name, type=kind, subfolder=subfolder)

    yield plant, marker
    assert not marker.exists()


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_workflow_cannot_choose_the_state_to_go_on_from(
    host: ComfyServer, train: Callable[..., dict[str, Any]], planted: Any, tmp_path: Path, dry_run: bool
) -> None:
    plant, _ = planted
    plant("input", "planted/checkpoint-000001")
    assert host.log is not None
    for folder in (tmp_path, host.log.parent / "input/planted/checkpoint-000001"):
        graph = train("look_back", config=f"train.resume_from_checkpoint = '{folder}'", dry_run=dry_run)
        with pytest.raises(ServerError, match=r"^[^\n]*may not set 'train\.resume_from_checkpoint'[^\n]*$"):
            host.run(graph, seconds=300)


def test_a_run_belongs_to_its_settings_and_another_gets_a_number(
    host: ComfyServer, train: Callable[..., dict[str, Any]], planted: Any
) -> None:
    def told(**inputs: Any) -> str:
        return str(host.run(train("look_back", output_name="shared", **inputs), seconds=300)["outputs"]["1"]["text"][0])

    plant, _ = planted
    plant("output", "i2v_training/shared/checkpoint-000001")
    assert "There is another training or file of the name 'shared', which stays: this one is 'shared_2'." in told()
    assert [path.name for path in run_folder(host, "shared").iterdir()] == ["checkpoint-000001"], "it is left alone"
    kept = {path: path.read_bytes() for path in run_folder(host, "shared_2").rglob("*") if path.is_file()}
    assert "this one is 'shared_3'" in told(learning_rate=0.01)
    assert {path: path.read_bytes() for path in kept} == kept, "so is the first run"
    assert "this one is 'shared_3'" in told(learning_rate=0.01, steps=3), "and the second goes on"
    assert "going on from step 2" in (run_folder(host, "shared_3") / "train.log").read_text()


def test_nothing_elsewhere_is_read_or_written(
    host: ComfyServer, train: Callable[..., dict[str, Any]], tmp_path: Path, clips: Path
) -> None:
    (tmp_path / "secret.mp4").write_bytes((clips / "clip 0.mp4").read_bytes())
    for name in ("a.jsonl", "metadata.jsonl"):
        (clips.parent / name).write_text(json.dumps({"file_name": str(tmp_path / "secret.mp4"), "text": "x"}))
    cases = [
        ({"data": str(tmp_path)}, "outside of ComfyUI's input"),
        ({"data": "../output"}, "must name a folder below the input folder"),
        ({"data": "a.jsonl"}, "lies outside of the data's folder"),
        ({"config": f"[data]\ncache_directory = '{tmp_path}'"}, "may not set 'data.cache_directory'"),
        ({"config": f"[validation]\nimage = '{tmp_path}/x.png'"}, "may not set 'validation.image'"),
        ({"output_name": "CON"}, "output_name must be a plain name"),
        ({"output_name": "a" * 238}, "output_name must be a plain name"),
    ]
    for inputs, sentence in cases:
        with pytest.raises(ServerError, match=rf"^I2VTrainAdapter[^\n]*{sentence}[^\n]*$"):
            host.run(train("look_back", **inputs), seconds=300)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.mp4"]
    assert not (clips / ".i2v_cache").exists()
