"""Laws of guidance with text and image apart: what its scales reduce to, and what it costs."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from i2v_core.diffusion.guidance import (
    ClassifierFreeGuidance,
    DualGuidance,
    GuidanceOrder,
    ScaleSchedule,
    parse_scale,
    progress_at,
)

ORDERS: list[GuidanceOrder] = ["text_first", "image_first"]
SCALES = [0.0, 1.0, 3.0, 7.5]


def predictions(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    full, single, null = torch.randn(3, 2, 4, 3, 5, 6, generator=generator, dtype=dtype)
    return full, single, null


@pytest.mark.parametrize(("text", "image"), list(product(SCALES, SCALES)))
def test_both_orders_are_their_equations(text: float, image: float) -> None:
    full, single, null = predictions()
    by_text = DualGuidance(text, image).at(0).combine(full, single, null)
    torch.testing.assert_close(by_text, null + text * (single - null) + image * (full - single))
    by_image = DualGuidance(text, image, "image_first").at(0).combine(full, single, null)
    torch.testing.assert_close(by_image, null + image * (single - null) + text * (full - single))


@pytest.mark.parametrize("order", ORDERS)
def test_scales_of_one_are_the_full_prediction_itself(order: GuidanceOrder) -> None:
    full, _, _ = predictions()
    assert DualGuidance(1.0, 1.0, order).at(0).combine(full, None, None) is full


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_without_image_scale_it_is_text_only_guidance(rescale: float) -> None:
    _, text_only, null = predictions()
    dual = DualGuidance(4.0, 0.0, rescale=rescale).at(0).combine(None, text_only, null)
    torch.testing.assert_close(dual, ClassifierFreeGuidance(4.0, rescale).combine(text_only, null))


@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize("order", ORDERS)
def test_equal_scales_are_ordinary_guidance_of_both(order: GuidanceOrder, rescale: float) -> None:
    full, _, null = predictions()
    dual = DualGuidance(4.0, 4.0, order, rescale).at(0).combine(full, None, null)
    torch.testing.assert_close(dual, ClassifierFreeGuidance(4.0, rescale).combine(full, null))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("first", "second", "passes"),
    # The condition that comes first, the one that comes second, the passes (full, first only, null).
    [
        (0.0, 0.0, (False, False, True)),
        (1.0, 0.0, (False, True, False)),
        (3.0, 0.0, (False, True, True)),
        (0.0, 1.0, (True, True, True)),
        (1.0, 1.0, (True, False, False)),
        (3.0, 1.0, (True, True, True)),
        (0.0, 3.0, (True, True, True)),
        (1.0, 3.0, (True, True, False)),
        (3.0, 3.0, (True, False, True)),
        (3.0, 5.0, (True, True, True)),
    ],
)
def test_only_passes_with_weight_are_needed(
    order: GuidanceOrder, first: float, second: float, passes: tuple[bool, bool, bool]
) -> None:
    text, image = (first, second) if order == "text_first" else (second, first)
    assert DualGuidance(text, image, order).at(0).needed == passes


def test_rescale_gives_the_spread_of_the_fullest_prediction() -> None:
    full, single, null = predictions()
    guided = DualGuidance(6.0, 2.0, rescale=1.0).at(0).combine(full, single, null)
    axes = (1, 2, 3, 4)
    torch.testing.assert_close(guided.std(axes, correction=0), full.std(axes, correction=0))


def test_weights_that_cancel_keep_half_precision() -> None:
    exact = predictions()
    half = [1e-3 * prediction.half() + 10 for prediction in exact]
    guided = DualGuidance(7.5, 9.0).at(0).combine(*half)
    expected = DualGuidance(7.5, 9.0).at(0).combine(*[prediction.double() for prediction in half])
    assert (guided.double() - expected).abs().max() < 0.05


@pytest.mark.parametrize(
    ("kind", "middle"),
    [("constant", 4.0), ("linear", 2.5), ("cosine", 2.5), ("interval", 4.0)],
)
def test_a_schedule_begins_at_its_scale_and_ends_where_it_says(kind: str, middle: float) -> None:
    schedule = ScaleSchedule(4.0, kind, 1.0, 0.0, 0.6)  # type: ignore[arg-type]
    assert schedule.at(0.0) == 4.0
    assert schedule.at(0.5) == pytest.approx(middle)
    assert schedule.at(1.0) == pytest.approx(4.0 if kind == "constant" else 1.0)


def test_a_cosine_is_flat_at_both_ends_and_a_line_is_not() -> None:
    cosine, line = ScaleSchedule(4.0, "cosine"), ScaleSchedule(4.0, "linear")
    assert cosine.at(0.0) - cosine.at(0.05) < 0.2 * (line.at(0.0) - line.at(0.05))
    assert cosine.at(0.95) - cosine.at(1.0) < 0.2 * (line.at(0.95) - line.at(1.0))


def test_the_progress_of_a_run_goes_from_zero_to_one_by_its_steps() -> None:
    sigmas = torch.tensor([14.0, 7.0, 3.0, 1.0, 0.2, 0.0])
    assert [progress_at(sigma, sigmas) for sigma in sigmas[:-1]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert progress_at(torch.tensor(5.0), sigmas) == pytest.approx(0.375)
    assert progress_at(torch.tensor(99.0), sigmas) == 0.0
    assert progress_at(torch.tensor(0.1), sigmas) == 1.0
    assert progress_at(torch.tensor(14.0), torch.tensor([14.0, 0.0])) == 0.0


def test_scales_are_read_as_they_are_written() -> None:
    assert parse_scale("4") == ScaleSchedule(4.0)
    assert parse_scale("cosine:4:1") == ScaleSchedule(4.0, "cosine", 1.0)
    assert parse_scale("interval:4:1:0.2:0.8") == ScaleSchedule(4.0, "interval", 1.0, 0.2, 0.8)


@pytest.mark.parametrize(
    "text", ["", "four", "linear", "linear:nan", "wave:1:2", "interval:4:1:0.8:0.2", "1:2:3:4:5:6"]
)
def test_other_words_are_no_scale(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no scale such as 4, linear:4:1"):
        parse_scale(text)


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf])
def test_a_scale_that_is_no_number_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="guidance scales must be finite"):
        DualGuidance(scale, 1.0)
    with pytest.raises(ValueError, match="guidance scales must be finite"):
        DualGuidance(1.0, scale)
    with pytest.raises(ValueError, match="guidance scales must be finite"):
        ScaleSchedule(1.0, "linear", scale)


def test_an_unknown_order_and_a_rescale_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="the order must be one of"):
        DualGuidance(1.0, 1.0, "sideways")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"rescale must be in \[0, 1\], got 1.5"):
        DualGuidance(1.0, 1.0, rescale=1.5)


def test_a_missing_or_misshapen_prediction_is_named() -> None:
    full, single, null = predictions()
    weights = DualGuidance(3.0, 2.0).at(0)
    with pytest.raises(ValueError, match=r"needs predictions of one shape, got \[.*None"):
        weights.combine(full, None, null)
    with pytest.raises(ValueError, match="needs predictions of one shape"):
        weights.combine(full, single[:1], null)
