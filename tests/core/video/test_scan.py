"""Scene cuts are found where they are, and fast motion is not taken for one."""

from pathlib import Path

import numpy as np
import pytest

from i2v_core.video import fit_image, index_frames
from i2v_core.video.scan import find_cuts, frame_changes, scan_video
from tests.core.data.written import panned, record_scenes
from tests.core.video.numbered import COUNT, record

THRESHOLD = 0.08


def cuts(path: Path) -> tuple[int, ...]:
    return find_cuts(frame_changes(scan_video(path, index_frames(path))), THRESHOLD)


@pytest.mark.parametrize(
    "scenes",
    [
        [("chelsea.png", 30)],
        [("chelsea.png", 20), ("coffee.png", 15)],
        [("rocket.jpg", 9), ("astronaut.png", 3), ("chelsea.png", 4), ("coffee.png", 12)],
    ],
)
def test_cuts_are_where_one_photograph_follows_another(tmp_path: Path, scenes: list[tuple[str, int]]) -> None:
    path = record_scenes(tmp_path / "scenes.mp4", scenes)
    assert cuts(path) == tuple(np.cumsum([count for _, count in scenes])[:-1])


def test_a_fast_pan_is_no_cut() -> None:
    small = (fit_image(frame, 18, 32).numpy() for frame in panned("astronaut.png", 9, step=40))
    changes = frame_changes(small)
    assert min(changes[1:]) > THRESHOLD
    assert not find_cuts(changes, THRESHOLD)


def test_changes_begin_with_zero_and_reach_one() -> None:
    black, white = (np.full((18, 32, 3), level, np.uint8) for level in (0, 255))
    assert frame_changes([black, black, white]) == (0, 0, 1)
    assert find_cuts((0, 0, 1), THRESHOLD) == (2,)
    assert find_cuts((), THRESHOLD) == ()


def test_every_frame_is_seen(tmp_path: Path) -> None:
    path = record(tmp_path / "turned.mp4", rotation=-90)
    index = index_frames(path)
    assert len(list(scan_video(path, index))) == COUNT
    assert (index.look.height, index.look.width, index.look.rotation) == (128, 64, -90)
