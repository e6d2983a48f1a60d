"""The shipped workflow over HTTP: a training of two steps as a process of its own, and a video with what it made."""

import io
import json

import av

import dev
from tools.comfy_server import ComfyServer, failure

NAME = "train_adapter"


def test_an_adapter_is_trained_and_used_in_one_run(host: ComfyServer) -> None:
    graph = json.loads((dev.ROOT / f"workflows/api/{NAME}.json").read_text())
    (trainer,) = [node["inputs"] for node in graph.values() if node["class_type"] == "I2VTrainAdapter"]
    trainer["steps"] = 2
    graph = dev.edit_graph(graph, image=host.upload(dev.ROOT / "demo/images/chelsea.jpg"))
    entry = host.wait(host.submit(graph), seconds=300)
    assert failure(entry) is None
    (writer,) = [key for key, node in graph.items() if node["class_type"] == "I2VCombineVideo"]
    (video,) = entry["outputs"][writer]["images"]
    with av.open(io.BytesIO(host.view(video))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8
