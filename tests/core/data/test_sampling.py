"""Clips lie within a shot, at the rate asked for, and begin everywhere where one fits."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from i2v_core.data.clip import seeded
from i2v_core.data.sampling import ClipWindow, draw_window, make_timeline
from i2v_core.video import FrameIndex
from tests.core.data.written import config
from tests.core.video.numbered import GAPS

CUTS = (12, 19, 60)


def even(count: int = 90, rate: int = 30) -> FrameIndex:
    return FrameIndex(tuple(range(count)), (0,), Fraction(1, rate), Fraction(rate), Fraction(count, rate))


def uneven() -> FrameIndex:
    stamps = tuple(int(gap) for gap in GAPS)
    span = Fraction(stamps[-1] - stamps[0], 1000)
    return FrameIndex(stamps, stamps[:1], Fraction(1, 1000), 89 / span, span + Fraction(1, 20))


def drawn(
    index: FrameIndex, cuts: tuple[int, ...] = (), run_frames: int = 0, draws: int = 200, **changes: object
) -> list[ClipWindow]:
    timeline, settings = make_timeline(index, cuts, run_frames), config(Path("none"), **changes)
    return [draw_window(timeline, settings, seeded(0, item)) for item in range(draws)]


@pytest.mark.parametrize("changes", [{}, {"frame_stride": 3}, {"target_fps": 15.0}, {"target_fps": 30.0}])
def test_no_clip_runs_over_a_cut(changes: dict[str, object]) -> None:
    shots = np.array([0, *CUTS, 90])
    for window in drawn(even(), CUTS, **changes):
        assert len(set(np.searchsorted(shots, window.frames, side="right"))) == 1


def test_every_place_where_a_clip_fits_is_drawn() -> None:
    assert {window.frames[0] for window in drawn(even(), CUTS, draws=900)} == {
        *range(5),
        *range(19, 53),
        *range(60, 83),
    }
    assert {window.frames[0] for window in drawn(even(30), frame_stride=4)} == {0, 1}
    # Every second frame, the last of them number 19.
    assert {window.frames[0] for window in drawn(even(20), target_fps=15.0)} == set(range(6))
    assert {window.frames for window in drawn(even(8))} == {tuple(range(8))}


def test_strides_are_drawn_from_those_that_fit() -> None:
    windows = drawn(even(30), frame_stride=1, frame_stride_max=6)
    assert {window.frames[1] - window.frames[0] for window in windows} == {1, 2, 3, 4}
    for window in windows:
        assert window.stride == window.frames[1] - window.frames[0]
        assert window.fps == pytest.approx(30 / window.stride)
    longer = drawn(even(60), frame_stride=1, frame_stride_max=6)
    assert {window.stride for window in longer} == {1, 2, 3, 4, 5, 6}, "the largest too"
    assert drawn(even(60), target_fps=15.0)[0].stride is None


def test_on_a_variable_rate_the_frames_are_those_on_display() -> None:
    index = uneven()
    times = np.array([float(index.time(i)) for i in range(90)])
    for window in drawn(index, target_fps=10.0):
        wanted = times[window.frames[0]] + np.arange(8) / 10
        assert list(window.frames) == (np.searchsorted(times, wanted + 6e-4, side="right") - 1).tolist()
        assert window.fps == 10


def test_by_number_the_rate_is_that_of_the_very_frames() -> None:
    index = uneven()
    for window in drawn(index):
        assert window.fps == pytest.approx(7 / float(index.time(window.frames[-1]) - index.time(window.frames[0])))


def test_a_run_bounds_what_is_used() -> None:
    timeline = make_timeline(even(), CUTS, 20)
    assert timeline.shots == ((29, 49),), "the middle of the longest shot"
    assert {window.frames[0] for window in drawn(even(), CUTS, 20)} == set(range(29, 42))
    assert make_timeline(even(), CUTS, 90).shots == make_timeline(even(), CUTS).shots


def test_rows_count_the_usable_frames() -> None:
    timeline = make_timeline(even(), CUTS)
    assert [timeline.row(frame) for frame in timeline.frames()] == list(range(90))
    with pytest.raises(ValueError, match="in none of the shots"):
        make_timeline(even(), CUTS, 20).row(3)


def test_a_file_without_room_for_a_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="no 8 frames fit"):
        draw_window(make_timeline(even(12), (6,)), config(Path("none")), seeded(0))
