"""An item shows exact frames of a file, the same ones in every process; files that go bad do not stop a run."""

import logging
import shutil
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from i2v_core.data import FileClips, open_data
from i2v_core.video import fit_image, read_frames, to_model_range, write_video
from tests.core.data.written import (
    config,
    numbers_of,
    panned,
    record_labeled,
    record_scenes,
    record_variable,
    write_bad_files,
)
from tests.core.video.numbered import GAPS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    record_labeled(folder / "constant.mp4")
    record_variable(folder / "variable.mp4")
    record_labeled(folder / "short_groups.mkv", g="12")
    write_bad_files(folder, folder / "constant.mp4")
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> FileClips:
    return open_data(config(folder, frame_stride=3))


def test_frames_are_exact_and_a_pass_has_every_good_file(data: FileClips) -> None:
    assert len(data) == 3
    items = [data.clip(item) for item in range(12)]
    for around in range(4):
        assert len({item.name for item in items[3 * around : 3 * around + 3]}) == 3
    for item in items:
        shown = numbers_of(item.pixels)
        assert shown == list(range(shown[0], shown[0] + 24, 3))
        assert item.pixels.shape == (3, 8, 64, 128)
        assert -1 <= item.pixels.min() < item.pixels.max() <= 1
        assert torch.equal(item.image, item.pixels[:, 0])
    assert len({numbers_of(item.pixels)[0] for item in items}) > 6, "where a clip begins is drawn anew"


def test_by_time_the_frames_on_display_are_taken(folder: Path) -> None:
    data = open_data(config(folder, target_fps=6.0))
    items = [item for item in map(data.clip, range(9)) if item.name == "variable.mp4"]
    assert len(items) == 3
    for item in items:
        shown = numbers_of(item.pixels)
        wanted = GAPS[shown[0]] + 1000 / 6 * torch.arange(8).numpy()
        assert shown == [(time + 0.03 >= GAPS).sum() - 1 for time in wanted]
        assert item.fps == 6


@pytest.mark.slow
def test_items_are_the_same_in_workers_in_any_order(data: FileClips) -> None:
    items = [7, 2, 5, 11]
    loader = DataLoader(data, sampler=items, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for item, clip in zip(items, loader, strict=True):
        own = data.clip(item)
        assert torch.equal(clip.pixels, own.pixels)
        assert (clip.name, clip.fps, clip.caption) == (own.name, own.fps, own.caption)


def test_the_seed_changes_the_clips_and_the_fingerprint_follows_the_settings(folder: Path, data: FileClips) -> None:
    again, other = (open_data(config(folder, frame_stride=3, seed=seed)) for seed in (0, 1))
    assert torch.equal(again.clip(4).pixels, data.clip(4).pixels)
    assert any(not torch.equal(other.clip(item).pixels, data.clip(item).pixels) for item in range(3))
    assert again.fingerprint() == data.fingerprint() != other.fingerprint()


def test_the_given_picture_may_be_any_frame(folder: Path) -> None:
    data = open_data(config(folder, rand_cond_frame=True))
    items = [data.clip(item) for item in range(12)]
    assert len({item.image_index for item in items}) > 4
    for item in items:
        assert torch.equal(item.image, item.pixels[:, item.image_index])


def test_a_turned_file_is_upright_and_cropped_around_the_center(tmp_path: Path) -> None:
    path = record_labeled(tmp_path / "turned.mp4", rotation=90)
    clip = open_data(config(tmp_path, height=48, width=48)).clip(0)
    upright = read_frames(path, [0]).frames
    assert upright.shape == (1, 128, 64, 3)
    # The photograph stands still; only the number changes.
    expected = to_model_range(fit_image(upright, 48, 48)[0]).permute(2, 0, 1)
    assert (clip.image - expected)[:, :, :40].abs().mean() < 0.03


def test_clips_stay_within_scenes(tmp_path: Path) -> None:
    record_scenes(tmp_path / "scenes.mp4", [("chelsea.png", 20), ("coffee.png", 15), ("rocket.jpg", 12)])
    for avoid, largest in ((True, 0.25), (False, 2)):
        data = open_data(config(tmp_path, height=48, width=64, avoid_cuts=avoid))
        changes = torch.stack([data.clip(i).pixels.diff(dim=1).abs().mean((0, 2, 3)).max() for i in range(30)])
        assert changes.max() < largest
        assert avoid or changes.max() > 0.25


def test_items_of_a_group_have_the_size_nearest_to_their_files(tmp_path: Path) -> None:
    sizes = {"wide": (48, 96), "wider": (48, 90), "tall": (96, 48), "square": (64, 64), "other": (60, 64)}
    for name, (height, width) in sizes.items():
        write_video(tmp_path / f"{name}.mp4", panned("chelsea.png", 10, height, width), 25)
    data = open_data(config(tmp_path, height=64, width=64, aspect_buckets=True, bucket_step=16, group=4))
    items = [data.clip(item) for item in range(2 * len(data))]
    for first in range(0, len(items), 2):
        assert len({item.pixels.shape for item in items[first : first + 2]}) == 1, "so a batch of 2 has one size"
    found = {item.name: tuple(item.pixels.shape[-2:]) for item in items}
    assert found == {
        "wide.mp4": (48, 80), "wider.mp4": (48, 80), "tall.mp4": (80, 48), "square.mp4": (64, 64),
        "other.mp4": (64, 64),
    }  # fmt: skip


def test_a_file_that_goes_bad_during_a_run_is_named_and_replaced(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("constant.mp4", "variable.mp4"):
        shutil.copy(folder / name, tmp_path / name)
    data = open_data(config(tmp_path))
    whole = [data.clip(item) for item in range(6)]
    (tmp_path / "variable.mp4").write_bytes(b"\0" * 3000)
    with caplog.at_level(logging.WARNING):
        items = [data.clip(item) for item in range(6)]
    assert {item.name for item in items} == {"constant.mp4"}
    assert sum("variable.mp4 is skipped" in message for message in caplog.messages) == 1
    for before, after in zip(whole, items, strict=True):
        assert before.name == "variable.mp4" or torch.equal(before.pixels, after.pixels)
    (tmp_path / "constant.mp4").unlink()
    with pytest.raises(ValueError, match="8 files in a row cannot be read"):
        data.clip(0)


def test_settings_that_contradict_one_another_are_refused(tmp_path: Path) -> None:
    for changes, reason in (
        ({"frames": 0}, r"data\.frames should be at least 1"),
        ({"target_fps": 8.0, "frame_stride": 2}, "by time"),
        ({"target_fps": -1.0}, r"data\.target_fps must be from 0\.001"),
        ({"frame_stride": 4, "frame_stride_max": 2}, "below frame_stride"),
        ({"image_fps": 0.0}, r"data\.image_fps must be from 0\.001"),
    ):
        with pytest.raises(ValueError, match=reason):
            config(tmp_path, **changes)
