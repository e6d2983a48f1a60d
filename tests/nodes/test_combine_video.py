"""Combine Video in the host: old workflows stay valid, VIDEO and AUDIO go in, clients find what comes out."""

import json
import logging
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
import torch
from PIL import Image
from torch import Tensor

WORKFLOW = {"nodes": [{"id": 1, "type": "LoadImage"}], "links": []}
PROMPT = {"1": {"class_type": "LoadImage", "inputs": {}}}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, 64, 96, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def combine(node_classes: dict[str, Any]) -> Any:
    """Run the node as the host does, with a graph to embed, and return outputs and what the interface gets."""
    node = node_classes["I2VCombineVideo"]

    def run(images: Any, prompt: Any = PROMPT, **settings: Any) -> Any:
        class Locked(node):  # type: ignore[misc, valid-type]
            hidden = SimpleNamespace(prompt=prompt, extra_pnginfo={"workflow": WORKFLOW}, unique_id="9")

        fixed = {"frame_rate": 8.0, "filename_prefix": "test/clip", "crf": 17, "save_output": True}
        return Locked.execute(images, **fixed | settings)

    return run


def listed(output: Any, host_module: Any) -> Path:
    """The file that the interface is told, where the server looks for it."""
    (item,) = output.ui["images"]
    paths = host_module("folder_paths")
    root = {"output": paths.get_output_directory(), "temp": paths.get_temp_directory()}[item["type"]]
    return Path(root, item["subfolder"], item["filename"])


def test_what_a_workflow_of_the_first_release_says_is_enough(combine: Any, images: Tensor, host_module: Any) -> None:
    output = combine(images)
    video, path, frames = output.result
    assert listed(output, host_module) == Path(path)
    assert output.ui["animated"] == (True,)
    assert frames is images
    assert video.get_components().images.shape == images.shape
    with av.open(path) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert json.loads(container.metadata["workflow"]) == WORKFLOW
        assert json.loads(container.metadata["prompt"]) == PROMPT


def test_every_format_is_listed_where_the_server_finds_it(
    combine: Any, images: Tensor, host_module: Any, core: Any
) -> None:
    formats = core("video.formats").FORMATS
    for name, how in formats.items():
        output = combine(images, format=name, save_output=False)
        video, path, _ = output.result
        assert output.ui["images"][0]["format"] == how.mime
        assert output.ui["images"][0]["type"] == "temp"
        shown = listed(output, host_module)
        assert shown.is_file()
        assert Path(path) in (shown, shown.parent)
        assert Path(path).is_dir() == (name == "png sequence") == (output.ui["animated"] == (False,))
        components = video.get_components()
        assert components.images.shape == images.shape
        assert components.frame_rate == pytest.approx(8, abs=0.1)


def test_a_video_keeps_its_own_rate_and_sound(combine: Any, images: Tensor, host_module: Any) -> None:
    latest = host_module("comfy_api.latest")
    sound = {"waveform": torch.rand(1, 2, 48_000) - 0.5, "sample_rate": 48_000}
    parts = latest.Types.VideoComponents(images=images, audio=sound, frame_rate=Fraction(24000, 1001))
    video, path, frames = combine(latest.InputImpl.VideoFromComponents(parts), frame_rate=3.0).result
    with av.open(path) as container:
        assert container.streams.video[0].average_rate == Fraction(24000, 1001)
        assert container.streams.audio[0].duration == pytest.approx(6 * 1001 / 24000 * 48_000, abs=1024)
    assert frames is images
    # What was written is itself a VIDEO that can be combined again.
    again = combine(video, format="webm vp9").result[1]
    with av.open(again) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_the_sound_given_goes_before_that_of_the_video(combine: Any, images: Tensor, host_module: Any) -> None:
    latest = host_module("comfy_api.latest")
    loud = {"waveform": torch.ones(1, 1, 48_000), "sample_rate": 48_000}
    quiet = {"waveform": torch.zeros(1, 1, 48_000), "sample_rate": 48_000}
    parts = latest.Types.VideoComponents(images=images, audio=loud, frame_rate=Fraction(8))
    path = combine(latest.InputImpl.VideoFromComponents(parts), audio=quiet, format="mkv ffv1").result[1]
    with av.open(path) as container:
        assert not any(frame.to_ndarray().any() for frame in container.decode(audio=0))


def count(path: str) -> int:
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_order_of_playing(combine: Any, images: Tensor) -> None:
    sound = {"waveform": torch.zeros(1, 1, 4000), "sample_rate": 8000}  # half a second, four frames
    for settings, frames in (
        ({"pingpong": True}, 10),
        ({"loop_count": 3}, 18),
        ({"pingpong": True, "loop_count": 2}, 20),
        ({"trim_to_audio": True}, 6),
        ({"trim_to_audio": True, "audio": sound}, 4),
        ({"audio": sound}, 6),
        ({"format": "gif", "pingpong": True, "loop_count": 3}, 10),
    ):
        assert count(combine(images, **settings).result[1]) == frames, settings


def test_quality_goes_before_crf_unless_it_says_crf(combine: Any, images: Tensor) -> None:
    def size(**settings: Any) -> int:
        return Path(combine(images, **settings).result[1]).stat().st_size

    assert size(quality="web", crf=17) == size(quality="crf", crf=23) == size(crf=23) < size(crf=17)


def test_metadata_can_be_left_out_here_and_for_the_whole_host(
    combine: Any, images: Tensor, host_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def texts(path: str) -> dict[str, str]:
        with Image.open(Path(path) / "00001.png" if Path(path).is_dir() else path) as picture:
            return {key: value for key, value in picture.info.items() if key in ("workflow", "prompt")}

    for name in ("apng", "png sequence"):
        assert json.loads(texts(combine(images, format=name).result[1])["workflow"]) == WORKFLOW
        assert texts(combine(images, format=name, save_metadata=False).result[1]) == {}
    monkeypatch.setattr(host_module("comfy.cli_args").args, "disable_metadata", True)
    assert texts(combine(images, format="apng").result[1]) == {}


def test_what_a_format_cannot_keep_is_said(combine: Any, caplog: pytest.LogCaptureFixture) -> None:
    sound = {"waveform": torch.zeros(1, 1, 4000), "sample_rate": 8000}
    with caplog.at_level(logging.INFO):
        combine(torch.rand(2, 63, 97, 4), format="mp4 h264")
        combine(torch.rand(2, 63, 97, 3), format="gif", audio=sound)
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        "mp4 h264 wants even sides: 64x98 instead of 63x97, repeating the edge.",
        "mp4 h264 has no transparency: it was laid over white.",
        "gif has no sound: the audio was left out.",
    ]


def test_bad_input_gets_one_sentence_and_leaves_nothing(combine: Any, images: Tensor, host_module: Any) -> None:
    root = Path(host_module("folder_paths").get_output_directory())
    poisoned = images.clone()
    poisoned[3, 0, 0, 0] = float("nan")
    several = {"waveform": torch.zeros(2, 1, 4000), "sample_rate": 8000}
    for given, settings, reason in (
        (images[:0], {}, "at least one frame"),
        (images[0], {}, "at least one frame of `t h w c`"),
        (poisoned, {}, "NaN or infinite"),
        (images, {"bit_depth": "10", "format": "webm vp9"}, "'webm vp9' has 8 bits"),
        (images, {"bit_depth": "8", "format": "mov prores"}, "'mov prores' has 10 bits"),
        (images, {"frame_rate": 60.0, "format": "gif"}, "at most 50 frames"),
        (images, {"audio": several}, "Expected one sound"),
        (images, {"filename_prefix": "../clip"}, "below the output folder"),
    ):
        before = set(root.rglob("*"))
        with pytest.raises(ValueError, match=reason):
            combine(given, **{"filename_prefix": "test/bad"} | settings)
        assert set(root.rglob("*")) - before <= {root / "test"}
    shown = combine(3 * images - 1, filename_prefix="test/bright", format="mkv ffv1").result[0].get_components().images
    assert torch.allclose(shown, (3 * images - 1).clamp(0, 1), atol=0.5 / 255 + 1e-6)


def test_canceling_leaves_nothing(
    combine: Any, images: Tensor, host_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(host_module("folder_paths").get_output_directory())

    def interrupt(*_: object, **__: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(host_module("comfy.utils"), "PROGRESS_BAR_HOOK", interrupt)
    for name in ("mp4 h264", "gif", "png sequence"):
        with pytest.raises(InterruptedError):
            combine(images, format=name, filename_prefix="canceled/clip")
    assert not list((root / "canceled").iterdir())
