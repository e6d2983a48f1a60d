"""Cached clips are the clips; a new file, setting or weight makes a new entry; killing a filling harms nothing."""

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from i2v_core.data import CachedClips, CacheEncoders, fill_cache, open_data, weights_hash
from i2v_core.data.file_clips import FileClips
from i2v_core.video import write_video
from tests.core.data.written import config, panned, record_labeled, record_scenes, record_variable

ROOT = Path(__file__).parents[3]


def small_autoencoder() -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Conv2d(3, 4, 8, stride=8)


def encode_texts(captions: list[str]) -> tuple[Tensor, Tensor]:
    rows = torch.stack([torch.tensor([len(caption), sum(map(ord, caption))]).float() for caption in captions])
    return rows[:, None].repeat(1, 5, 1), rows


AUTOENCODER = small_autoencoder().requires_grad_(False)
ENCODERS = CacheEncoders(AUTOENCODER, weights_hash(AUTOENCODER), encode_texts, "texts 1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    record_labeled(folder / "constant.mp4")
    record_variable(folder / "variable.mp4")
    record_scenes(folder / "scenes.mp4", [("chelsea.png", 20), ("coffee.png", 15), ("rocket.jpg", 12)])
    for name in ("constant", "variable"):
        (folder / f"{name}.txt").write_text(f"a {name} clip")
    return folder


def opened(folder: Path, **changes: object) -> FileClips:
    return open_data(config(folder, **{"cache_dtype": "float32", "rand_cond_frame": True, **changes}))


def entries(cached: CachedClips, kind: str = "latents") -> set[Path]:
    return set((cached.folder / kind).rglob("*.safetensors"))


@pytest.mark.parametrize("changes", [{}, {"frame_stride": 2, "run_frames": 30}, {"target_fps": 9.0}])
def test_cached_clips_are_the_clips(folder: Path, changes: dict[str, object]) -> None:
    clips = opened(folder, **changes)
    cached = fill_cache(clips, ENCODERS)
    begins = set()
    for item in range(9):
        plain, kept = clips.clip(item), cached.clip(item)
        assert kept.pixels is None
        torch.testing.assert_close(kept.image, plain.image, rtol=0, atol=0)
        with torch.no_grad():
            encoded = AUTOENCODER(plain.pixels.transpose(0, 1)).transpose(0, 1)
        torch.testing.assert_close(kept.latents, encoded, rtol=1e-5, atol=1e-5)
        assert (kept.caption, kept.fps, kept.image_index) == (plain.caption, plain.fps, plain.image_index)
        text, pooled = encode_texts([plain.caption])
        assert torch.equal(kept.text, text[0])
        assert torch.equal(kept.pooled_text, pooled[0])
        begins.add((kept.name, kept.latents.sum().item()))
    assert len(begins) > 6, "where a clip begins is drawn anew from what was kept"
    assert torch.equal(cached.text("")[0], encode_texts([""])[0][0]), "dropped captions are kept too"


def test_a_second_filling_encodes_nothing_and_a_changed_setting_everything_it_touches(folder: Path) -> None:
    encoded: list[int] = []

    def counting(pixels: Tensor) -> Tensor:
        encoded.append(len(pixels))
        return AUTOENCODER(pixels)

    counted = replace(ENCODERS, pixels=counting, pixels_hash="counted")
    fill_cache(opened(folder), counted)
    assert sum(encoded) == 90 + 90 + 47
    assert max(encoded) <= 16, "a few frames at a time"
    for changes, expected in (
        ({}, 0),
        ({"frame_stride": 3}, 0),
        ({"frames": 5, "seed": 4}, 0),
        ({"run_frames": 12}, 36),
        ({"height": 32, "width": 64}, 227),
    ):
        encoded.clear()
        fill_cache(opened(folder, **changes), counted)
        assert sum(encoded) == expected, changes
    encoded.clear()
    fill_cache(opened(folder), replace(counted, pixels_hash="other weights"))
    assert sum(encoded) == 227


def test_a_changed_file_or_caption_makes_a_new_entry(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", panned("chelsea.png", 12), 25)
    first = fill_cache(opened(tmp_path), ENCODERS)
    latents, texts = entries(first), entries(first, "texts")
    assert (len(latents), len(texts)) == (1, 1)
    (tmp_path / "clip.txt").write_text("a cat")
    again = fill_cache(opened(tmp_path), ENCODERS)
    assert entries(again) == latents
    assert len(entries(again, "texts")) == 2
    write_video(tmp_path / "clip.mp4", panned("coffee.png", 12), 25)
    changed = fill_cache(opened(tmp_path), ENCODERS)
    assert len(entries(changed)) == 2
    with torch.no_grad():
        wanted = AUTOENCODER(opened(tmp_path).clip(0).pixels.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(changed.clip(0).latents, wanted, rtol=1e-5, atol=1e-5)


def test_the_same_bytes_under_another_name_are_encoded_once(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, panned("chelsea.png", 12), 25)
    assert len(entries(fill_cache(opened(tmp_path), ENCODERS))) == 1


def test_weights_have_one_hash() -> None:
    other = small_autoencoder()
    assert weights_hash(other) == weights_hash(AUTOENCODER)
    other.bias.data[0] += 1e-6
    assert weights_hash(other) != weights_hash(AUTOENCODER)
    assert weights_hash(nn.BatchNorm2d(2)) != weights_hash(nn.BatchNorm2d(2).half())


def test_half_precision_is_half_the_size_and_near(folder: Path) -> None:
    sizes, clips = {}, {}
    for dtype in ("float32", "float16", "bfloat16"):
        cached = fill_cache(opened(folder, cache_dtype=dtype, cache_directory=str(folder / f".{dtype}")), ENCODERS)
        sizes[dtype] = sum(path.stat().st_size for path in entries(cached))
        clips[dtype] = cached.clip(0).latents
    assert sizes["float16"] < 0.6 * sizes["float32"]
    torch.testing.assert_close(clips["float16"], clips["float32"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(clips["bfloat16"], clips["float32"], rtol=1e-2, atol=1e-2)


def test_parts_share_the_work_and_any_process_reads_it(folder: Path, tmp_path: Path) -> None:
    clips = opened(folder, cache_directory=str(tmp_path))
    orders = []
    for part in range(2):
        told: list[tuple[int, int, str]] = []
        cached = fill_cache(clips, ENCODERS, part=part, parts=2, on_file=lambda *done: told.append(done))  # noqa: B023
        assert [done[:2] for done in told] == [(1, 3), (2, 3), (3, 3)]
        orders.append([name for *_, name in told])
    names = [file.name for file in clips.files]
    assert orders == [[names[0], names[2], names[1]], [names[1], names[2], names[0]]]
    assert len(entries(cached)) == 3
    assert torch.equal(pickle.loads(pickle.dumps(cached)).clip(4).latents, cached.clip(4).latents)


def test_entries_that_are_missing_or_damaged_are_told_to_be_so(folder: Path, tmp_path: Path) -> None:
    cached = fill_cache(opened(folder, cache_directory=str(tmp_path)), ENCODERS)
    for path in entries(cached):
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="delete that file"):
        cached.clip(0)
    for path in entries(cached):
        path.unlink()
    with pytest.raises(ValueError, match="8 files in a row"):
        cached.clip(0)


SLOW_FILLING = """
import sys, time
from tests.core.data.test_cache import AUTOENCODER, ENCODERS, opened
from i2v_core.data import fill_cache
from dataclasses import replace
from pathlib import Path

def slowly(pixels):
    time.sleep(0.05)
    return AUTOENCODER(pixels)

clips = opened(Path(sys.argv[1]), cache_directory=sys.argv[2])
print("filling", flush=True)
fill_cache(clips, replace(ENCODERS, pixels=slowly))
"""


@pytest.mark.slow
def test_a_killed_filling_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    """kill -9 after the first entries: none is damaged, and the rest is made; two processes at once do no harm."""
    command = [sys.executable, "-c", SLOW_FILLING, str(folder), str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    deadline = time.monotonic() + 180
    while not list(tmp_path.rglob("latents/**/*.safetensors")):
        assert time.monotonic() < deadline
        assert any(process.poll() is None for process in both)
        time.sleep(0.01)
    for process in both:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    clips = opened(folder, cache_directory=str(tmp_path))
    half = CachedClips(clips, ENCODERS.pixels_hash, ENCODERS.texts_hash)
    before = {path: path.stat().st_mtime_ns for path in entries(half)}
    assert 1 <= len(before) < 3
    cached = fill_cache(clips, ENCODERS)
    assert len(entries(cached)) == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    fresh = fill_cache(opened(folder, cache_directory=str(tmp_path / "fresh")), ENCODERS)
    for item in range(3):
        torch.testing.assert_close(cached.clip(item).latents, fresh.clip(item).latents, rtol=1e-5, atol=1e-5)
