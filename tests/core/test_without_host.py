"""The core needs no ComfyUI: neither importing all of it nor animating a picture as much as looks for one."""

import subprocess
import sys
from pathlib import Path

import dev
from i2v_core.video import read_video

RUN = """
import importlib, pkgutil, runpy, sys

HOST = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "nodes", "server", "execution"}
asked = []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HOST:
            asked.append(name)

sys.meta_path.insert(0, Watch())
import i2v_core
for module in pkgutil.walk_packages(i2v_core.__path__, "i2v_core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
sys.argv[0] = "i2v_core"
try:
    runpy.run_module("i2v_core", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("asked:", asked)
"""


def test_importing_and_running_it_never_looks_for_comfyui(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    arguments = ["animate", "demo/images/chelsea.jpg", "zoom in", str(clip), "--steps", "1", "--frames", "2"]
    command = [sys.executable, "-W", "ignore", "-c", RUN, *arguments]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, cwd=dev.ROOT)
    assert ended.stdout.splitlines()[-1] == "asked: []"
    assert len(read_video(clip).frames) == 2
