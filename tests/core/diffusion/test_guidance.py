"""Laws of classifier-free guidance."""

import pytest
import torch
from torch import Tensor

from i2v_core.diffusion.guidance import ClassifierFreeGuidance, rescale_to


def clip(seed: int) -> Tensor:
    return torch.randn(2, 4, 3, 5, 6, generator=torch.Generator().manual_seed(seed))


def spread(x: Tensor) -> Tensor:
    return x.flatten(1).std(dim=1)


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_scale_1_is_the_conditional_prediction_and_needs_no_other(rescale: float) -> None:
    guidance, conditional = ClassifierFreeGuidance(1.0, rescale), clip(0)
    assert not guidance.needs_unconditional
    assert guidance.combine(conditional) is conditional
    assert guidance.combine(conditional, clip(1)) is conditional


def test_scale_0_is_the_unconditional_prediction() -> None:
    assert ClassifierFreeGuidance(0.0).combine(clip(0), clip(1)).equal(clip(1))


def test_guidance_is_linear_in_its_scale() -> None:
    conditional, unconditional = clip(0), clip(1)
    guided = ClassifierFreeGuidance(7.5).combine(conditional, unconditional)
    torch.testing.assert_close(guided, 7.5 * conditional - 6.5 * unconditional)


@pytest.mark.parametrize("scale", [0.0, 3.0, 12.0])
def test_equal_predictions_are_a_fixed_point(scale: float) -> None:
    conditional = clip(0)
    combined = ClassifierFreeGuidance(scale, 0.7).combine(conditional, conditional.clone())
    torch.testing.assert_close(combined, conditional)


@pytest.mark.parametrize("amount", [0.0, 0.7, 1.0])
def test_rescale_draws_the_spread_of_each_clip_to_the_conditional_one(amount: float) -> None:
    conditional = clip(0) * torch.tensor([1.0, 5.0]).reshape(2, 1, 1, 1, 1)
    guided = clip(1) * torch.tensor([3.0, 2.0]).reshape(2, 1, 1, 1, 1)
    expected = amount * spread(conditional) + (1 - amount) * spread(guided)
    rescaled = rescale_to(guided, conditional, amount)
    torch.testing.assert_close(spread(rescaled), expected)
    torch.testing.assert_close(rescaled / guided, (expected / spread(guided)).reshape(2, 1, 1, 1, 1).expand_as(guided))


def test_a_clip_does_not_depend_on_its_batch() -> None:
    guidance = ClassifierFreeGuidance(7.5, 0.7)
    together = guidance.combine(clip(0), clip(1))
    torch.testing.assert_close(together[:1], guidance.combine(clip(0)[:1], clip(1)[:1]))


def test_rescale_of_a_flat_prediction_stays_finite() -> None:
    flat = torch.full((1, 4, 2, 3, 3), 0.5)
    assert rescale_to(flat, clip(0)[:1, :, :2, :3, :3], 0.7).equal(flat)


def test_rescale_in_half_precision_rounds_only_its_result() -> None:
    conditional, guided = (200 * clip(0)).half(), (800 * clip(1)).half()
    exact = rescale_to(guided.float(), conditional.float(), 0.7)
    assert rescale_to(guided, conditional, 0.7).equal(exact.half())


def test_combine_leaves_its_inputs_alone() -> None:
    conditional, unconditional = clip(0), clip(1)
    ClassifierFreeGuidance(7.5, 0.7).combine(conditional, unconditional)
    assert conditional.equal(clip(0))
    assert unconditional.equal(clip(1))


def test_missing_or_misshapen_unconditional_is_refused() -> None:
    guidance = ClassifierFreeGuidance(7.5)
    assert guidance.needs_unconditional
    with pytest.raises(ValueError, match=r"scale 7.5 needs the unconditional prediction, got None"):
        guidance.combine(clip(0))
    with pytest.raises(ValueError, match=r"\(2, 4, 3, 5, 6\), got \(1, 4, 3, 5, 6\)"):
        guidance.combine(clip(0), clip(1)[:1])


def test_impossible_values_are_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        ClassifierFreeGuidance(float("nan"))
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        ClassifierFreeGuidance(7.5, 1.5)
