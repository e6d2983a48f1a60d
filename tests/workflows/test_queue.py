"""Prompts one after the other, and one cancelled in the middle: each gives what it gives alone."""

import io
import json
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dev
from tools.comfy_server import ComfyServer, failure, tail

SAMPLER, SAVE = "7", "9"


def graph(prompt: str, frames: int, steps: int, seed: int, eta: float, cfg: float) -> dict[str, Any]:
    """The demo workflow with our schedule, sampler and guidance rescale, and pictures for its frames."""
    shipped = json.loads((dev.ROOT / "workflows/api/animate_image.json").read_text())
    graph = dev.edit_graph(shipped, prompt=prompt, frames=frames)
    parts = {
        SAMPLER: ("SamplerCustomAdvanced", {"noise": ["20", 0], "guider": ["21", 0], "sampler": ["22", 0],
                                            "sigmas": ["23", 0], "latent_image": ["6", 2]}),
        "20": ("RandomNoise", {"noise_seed": seed}),
        "21": ("CFGGuider", {"model": ["24", 0], "positive": ["6", 0], "negative": ["6", 1], "cfg": cfg}),
        "22": ("I2VDDIMSampler", {"eta": eta, "reference_end": False}),
        "23": ("I2VSchedule", {"model": ["1", 0], "steps": steps, "spacing": "auto", "start_step": 1000}),
        "24": ("I2VGuidanceRescale", {"model": ["1", 0], "amount": 0.5}),
        SAVE: ("SaveImage", {"images": ["8", 0], "filename_prefix": "queue"}),
    }  # fmt: skip
    return graph | {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in parts.items()}


def forget(host: ComfyServer) -> None:
    """Empty the server's cache, so that the same graph runs again."""
    host.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1.5)  # the idle server looks for this once a second


def frames_of(host: ComfyServer, identity: str) -> np.ndarray:
    entry = host.wait(identity, seconds=120)
    assert failure(entry) is None
    cached = next(data["nodes"] for kind, data in entry["status"]["messages"] if kind == "execution_cached")
    assert SAMPLER not in cached
    return np.stack([np.array(Image.open(io.BytesIO(host.view(item)))) for item in entry["outputs"][SAVE]["images"]])


@pytest.fixture(scope="module")
def left(host: ComfyServer) -> dict[str, Any]:
    host.upload(dev.ROOT / "demo/images/chelsea.jpg")
    return graph("the camera pans left", frames=6, steps=6, seed=1, eta=1.0, cfg=2.0)


@pytest.fixture(scope="module")
def alone(host: ComfyServer, left: dict[str, Any]) -> np.ndarray:
    forget(host)
    return frames_of(host, host.submit(left))


def test_two_prompts_in_the_queue_give_what_each_gives_alone(
    host: ComfyServer, left: dict[str, Any], alone: np.ndarray
) -> None:
    out = graph("the camera zooms out", frames=4, steps=9, seed=2, eta=0.5, cfg=4.0)
    forget(host)
    other = frames_of(host, host.submit(out))
    forget(host)
    together = [frames_of(host, identity) for identity in [host.submit(out), host.submit(left)]]
    np.testing.assert_array_equal(together[0], other)
    np.testing.assert_array_equal(together[1], alone)
    assert not np.array_equal(other, alone[:4])


def test_cancelling_in_the_middle_leaves_the_server_clean(
    host: ComfyServer, left: dict[str, Any], alone: np.ndarray
) -> None:
    assert host.log is not None
    long = graph("the camera pans right", frames=8, steps=1000, seed=3, eta=1.0, cfg=3.0)
    forget(host)
    identity, deadline = host.submit(long), time.monotonic() + 120
    while "/1000 [" not in tail(host.log, lines=1) or " 0/1000 [" in tail(host.log, lines=1)[-120:]:
        assert time.monotonic() < deadline, "sampling never started"
        time.sleep(0.05)
    host.post("/interrupt", {})
    entry = host.wait(identity, seconds=30)
    assert [kind for kind, _ in entry["status"]["messages"]][-1] == "execution_interrupted"
    queue = host.get("/queue")
    assert not queue["queue_running"]
    assert not queue["queue_pending"]
    forget(host)
    np.testing.assert_array_equal(frames_of(host, host.submit(left)), alone)
