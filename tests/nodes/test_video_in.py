"""A VIDEO goes through Combine Video by the pack's own reader, with the edits of the host, as a stream."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import pytest
import torch

from tests.core.video.ffmpeg import CASES
from tests.core.video.numbered import COUNT, numbers, record
from tools.comfy_server import ComfyServer, failure

PROMPT = {"9": {"class_type": "I2VCombineVideo", "inputs": {}}}
LINKED = PROMPT | {"10": {"class_type": "PreviewImage", "inputs": {"images": ["9", 2], "video": ["9", 0]}}}
Combine = Callable[..., tuple[Any, str, Any]]


@pytest.fixture
def combine(node_classes: dict[str, Any]) -> Combine:
    node = node_classes["I2VCombineVideo"]

    def run(video: Any, prompt: Any = PROMPT, **settings: Any) -> Any:
        class Locked(node):  # type: ignore[misc, valid-type]
            hidden = SimpleNamespace(prompt=prompt, extra_pnginfo=None, unique_id="9")

        fixed = {"frame_rate": 8.0, "filename_prefix": "test/in", "crf": 17, "save_output": True}
        return Locked.execute(video, **fixed | settings).result

    return run


@pytest.fixture(scope="module")
def from_file(pack: ModuleType) -> Any:
    from comfy_api.latest import InputImpl

    return InputImpl.VideoFromFile


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("videos") / "counted.mp4", g="12", bf="2")


def shown(path: str) -> list[int]:
    with av.open(path) as container:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return numbers(torch.stack(frames))


def test_files_from_the_field_are_combined_as_players_show_them(combine: Combine, from_file: Any, core: Any) -> None:
    read = core("video").read_video
    for name, size, sound in (
        ("rot90.mp4", (160, 120), False),
        ("hflip.mp4", (120, 160), False),
        ("sar.mp4", (120, 228), False),
        ("interlaced.mp4", (120, 160), False),
        ("hdr_pq.mp4", (120, 160), False),
        ("avi_h264_bframes.avi", (120, 160), False),
        ("hevc_cut_noedit.mp4", (120, 160), False),
        ("mono8k.mov", (120, 160), True),
        ("apac_first.mp4", (120, 160), True),
        ("apac_only.mp4", (120, 160), False),
    ):
        path = combine(from_file(str(CASES / name)), format="mkv ffv1")[1]
        written, expected = read(path), read(CASES / name)
        assert written.frames.shape[1:3] == size, name
        torch.testing.assert_close(written.frames, expected.frames, rtol=0, atol=0)
        with av.open(path) as container:
            assert bool(container.streams.audio) == sound, name
    with pytest.raises(ValueError, match=r"concat\.ts' changes its size at frame 50"):
        combine(from_file(str(CASES / "concat.ts")))


def test_what_was_written_goes_in_again_with_its_sound(combine: Combine, from_file: Any, counted: Path) -> None:
    sound = {"waveform": torch.sin(torch.arange(16_000) / 9)[None, None] / 2, "sample_rate": 8000}
    for name in ("mov prores", "mkv ffv1", "webm vp9"):
        path = combine(from_file(str(counted)), format=name, audio=sound)[1]
        again = combine(from_file(path), format="mkv ffv1")[1]
        assert shown(again) == list(range(COUNT))
        with av.open(again) as container:
            loudest = max(abs(frame.to_ndarray().astype(float)).max() for frame in container.decode(audio=0))
        assert loudest == pytest.approx(2**14, rel=0.1)  # FLAC counts to 2 ** 15


def test_it_is_a_stream_unless_its_frames_are_asked_for(combine: Combine, from_file: Any, counted: Path) -> None:
    video, path, images = combine(from_file(str(counted)))
    assert images is None
    assert video.get_stream_source() == path
    video, _, images = combine(from_file(str(counted)), LINKED, format="webp", loop_count=1)
    assert numbers(images * 255) == list(range(COUNT))
    assert len(video.get_components().images) == COUNT
    assert combine(from_file(str(counted)), format="webp")[0] is None


def test_it_plays_backwards_without_being_held(combine: Combine, from_file: Any, counted: Path) -> None:
    back = list(range(COUNT - 2, 0, -1))
    path = combine(from_file(str(counted)), format="mkv ffv1", pingpong=True, loop_count=2)[1]
    assert shown(path) == [*range(COUNT), *back] * 2


def test_edits_of_newer_hosts_are_honored(combine: Combine, from_file: Any, counted: Path) -> None:
    """Trim, crop and lists, kept as hosts of 2026 keep them."""

    class Edited(from_file):  # type: ignore[misc, valid-type]
        known = True

        def get_active_trim_window(self) -> tuple[float, float]:
            return 1.0, 0.5

        def has_pending_frame_edits(self) -> bool:
            return True

        def get_dimensions(self) -> tuple[int, int]:
            return (64, 32) if self.known else (50, 20)

        def get_components(self) -> Any:
            return SimpleNamespace(images=torch.zeros(2, 20, 50, 3), frame_rate=5, audio=None)

    edited = Edited(io.BytesIO(counted.read_bytes()))
    edited._VideoFromFile__crop = (64, 16, 64, 32)
    path = combine(edited, format="mkv ffv1")[1]
    with av.open(path) as container:
        frames = torch.stack([torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)])
    assert frames.shape == (15, 32, 64, 3)
    # The right half shows the upper four of the eight bits.
    bars = (frames.float().mean((1, 3)).unflatten(-1, (4, 16)).mean(-1) > 128).long() @ torch.tensor([1, 2, 4, 8])
    assert bars.tolist() == [number >> 4 for number in range(30, 45)]
    edited.known = False
    with av.open(combine(edited)[1]) as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == (20, 50)


def test_a_list_of_videos_is_one_behind_the_other(combine: Combine, from_file: Any, counted: Path) -> None:
    class Listed(from_file):  # type: ignore[misc, valid-type]
        complete_audio = None

        def __init__(self, *videos: Any) -> None:
            self.videos = list(videos)

    part = from_file(str(counted))
    path = combine(Listed(part, part), format="mkv ffv1")[1]
    assert shown(path) == [*range(COUNT), *range(COUNT)]
    other = from_file(str(CASES / "rot90.mp4"))
    with pytest.raises(ValueError, match="differ in size or rate: 128x64 at 30 fps, 120x160 at 25 fps"):
        combine(Listed(part, other))


def test_an_output_that_is_connected_later_is_made_then(host: ComfyServer) -> None:
    """Over HTTP: the first run gathers no frames, and the second one is not answered from what the first one kept."""
    name = host.upload(CASES / "rot90.mp4")
    settings = {"frame_rate": 8.0, "crf": 17, "save_output": True, "filename_prefix": "%date:yyyy%/%LoadVideo.file%"}
    graph: dict[str, Any] = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": name}},
        "2": {"class_type": "I2VCombineVideo", "inputs": {"images": ["1", 0], **settings}},
    }
    [shown] = host.run(graph)["outputs"]["2"]["images"]
    assert shown["filename"].startswith(name)
    assert shown["subfolder"] == time.strftime("%Y")
    graph["3"] = {"class_type": "PreviewImage", "inputs": {"images": ["2", 2]}}
    entry = host.run(graph)
    assert failure(entry) is None
    assert len(entry["outputs"]["3"]["images"]) == 50
