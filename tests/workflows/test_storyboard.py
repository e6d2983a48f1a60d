"""The shipped storyboard over HTTP: each part animates a picture of its own."""

import json
from pathlib import Path

import dev
from i2v_core.metrics.pixels import psnr
from i2v_core.video import fit_image, frames_to_clip, read_video, to_model_range
from i2v_core.video.pictures import read_picture
from tools.comfy_server import ComfyServer, failure


def test_each_part_begins_with_its_own_picture(host: ComfyServer, tmp_path: Path) -> None:
    graph = json.loads((dev.ROOT / "workflows/api/storyboard.json").read_text())
    photographs = [dev.ROOT / "demo/images" / graph[node]["inputs"]["image"] for node in ("2", "9")]
    for photograph in photographs:
        host.upload(photograph)
    entry = host.wait(host.submit(dev.edit_graph(graph, steps=6)), seconds=300)
    assert failure(entry) is None
    (item,) = entry["outputs"]["16"]["images"]
    path = tmp_path / item["filename"]
    path.write_bytes(host.view(item))
    clip = frames_to_clip(read_video(path).frames)
    assert clip.shape[1] == 8 + 8
    for photograph, frame in zip(photographs, (0, 8), strict=True):
        given = to_model_range(fit_image(read_picture(photograph), 64, 64)).permute(2, 0, 1)
        assert psnr(clip[:, frame], given) > 26
