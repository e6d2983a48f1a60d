"""The shipped workflow over HTTP: a part of the video that was just made becomes a GIF that plays to and fro."""

import io
import json

from PIL import Image

import dev
from tools.comfy_server import ComfyServer, failure

NAME = "video_to_gif"


def test_the_gif_shows_the_part_forth_and_back(host: ComfyServer) -> None:
    graph = json.loads((dev.ROOT / f"workflows/api/{NAME}.json").read_text())
    graph = dev.edit_graph(graph, image=host.upload(dev.ROOT / "demo/images/chelsea.jpg"), steps=4)
    entry = host.wait(host.submit(graph), seconds=300)
    assert failure(entry) is None
    shown = {number: result["images"][0] for number, result in entry["outputs"].items() if "images" in result}
    assert shown["9"]["filename"].endswith(".mp4")
    with Image.open(io.BytesIO(host.view(shown["11"]))) as gif:
        # Six frames from the third on, and four of them back: both ends are shown once.
        assert gif.n_frames == 10 and gif.size == (64, 64)
