"""Curves as SVG and as pictures: every value at its place, and nothing drawn of nothing."""

from xml.etree import ElementTree

import pytest
import torch

from i2v_core.evaluation.plot import PlotSize, compare_frames, draw_plot
from i2v_core.evaluation.svg import draw_curves

CURVES = {"a <b>": [1.0, 0.5, 0.0], "c": [0.0, 0.5]}


def test_svg_is_well_formed_and_keeps_the_order_of_values() -> None:
    tree = ElementTree.fromstring(draw_curves(CURVES, "similarity & more"))
    lines = tree.findall("polyline")
    assert [line.findtext("title") for line in lines] == ["a <b>", "c"]
    points = [[tuple(map(float, point.split(","))) for point in str(line.get("points")).split()] for line in lines]
    assert [len(line) for line in points] == [3, 2]
    falling, rising = points
    assert falling[0][1] < falling[1][1] < falling[2][1], "down the page is less"
    assert falling[1] == rising[1], "equal values lie on one point"


def test_a_curve_may_begin_with_two_frames() -> None:
    texts = [text.text for text in ElementTree.fromstring(draw_curves({"a": [1.0, 2.0, 3.0]}, "t", 2)).findall("text")]
    assert texts[5:8] == ["2", "3", "4"]


def test_a_plot_shows_each_curve_in_its_color_up_to_the_frame() -> None:
    blue = torch.tensor([0x00, 0x72, 0xB2]) / 255

    def drawn(frame: int | None) -> int:
        plot = draw_plot({"a": [0.0, 1.0, 0.0, 1.0]}, "t", frame=frame)
        assert plot.shape == (320, 640, 3)
        return int(((plot - blue).abs().sum(-1) < 0.05).sum())

    assert drawn(1) < drawn(2) < drawn(3) == drawn(None)


def test_compared_clips_are_magnified_to_the_plots_width() -> None:
    clips = {"a": torch.rand(3, 20, 30, 3), "b": torch.rand(2, 20, 30, 3)}
    frames = compare_frames(clips, {"a": [0.0, 1.0, 2.0], "b": [1.0, 1.0]}, "t")
    assert frames.shape == (3, 20 * 11 + PlotSize.height, 660, 3)
    torch.testing.assert_close(frames[2, :220:11, 330::11], clips["b"][1])


def test_nothing_cannot_be_drawn() -> None:
    for draw in (draw_plot, draw_curves):
        with pytest.raises(ValueError, match="no curves to draw"):
            draw({"a": []}, "t")
