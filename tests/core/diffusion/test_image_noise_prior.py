"""The image noise prior against its definition, and linear fusion against blending of clean estimates."""

import pytest
import torch
from torch import Tensor

from i2v_core.diffusion.image_noise_prior import (
    MIN_NOISE_LEVEL,
    fusion_weights,
    image_noise_prior,
    linear_fusion,
    reference_prediction,
    residual_ratio,
    residual_target,
)
from i2v_core.diffusion.prediction import Prediction, add_noise, from_denoised, target, to_denoised
from i2v_core.diffusion.schedule import Schedule, ScheduleConfig

PAPER = Schedule(ScheduleConfig(beta_start=1e-4, beta_end=2e-2, beta_schedule="linear"))
LEVELS = [0, 1, 250, 600, 999]


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 4, 1, 6, 6, dtype=torch.float64)


@pytest.fixture
def clip() -> Tensor:
    return torch.randn(2, 4, 5, 6, 6, dtype=torch.float64)


@pytest.mark.parametrize("timestep", LEVELS)
@pytest.mark.parametrize("schedule", [PAPER, Schedule()], ids=["paper", "checkpoint"])
def test_the_prior_of_a_still_clip_is_the_noise_that_was_added(
    image: Tensor, clip: Tensor, schedule: Schedule, timestep: int
) -> None:
    alpha_bar = schedule.alpha_bar[timestep].expand(2)
    z = add_noise(image.expand_as(clip), clip, alpha_bar)
    prior = image_noise_prior(z, image, alpha_bar)
    torch.testing.assert_close(prior, clip, rtol=0, atol=1e-10)
    recovered = (z - (1 - alpha_bar[0]).sqrt() * prior) / alpha_bar[0].sqrt()  # equation 7
    torch.testing.assert_close(recovered, image.expand_as(clip), rtol=0, atol=1e-10)


def test_the_prior_exceeds_the_noise_by_the_scaled_residual(image: Tensor, clip: Tensor) -> None:
    noise, alpha_bar = torch.randn_like(clip), PAPER.alpha_bar[[100, 700]]
    prior = image_noise_prior(add_noise(clip, noise, alpha_bar), image, alpha_bar)
    torch.testing.assert_close(prior, noise + residual_ratio(clip, image, alpha_bar), rtol=0, atol=1e-10)


def test_without_noise_the_divisor_is_held_and_half_precision_stays_finite(image: Tensor, clip: Tensor) -> None:
    clean = torch.ones(2)
    prior = image_noise_prior(clip, image, clean)
    torch.testing.assert_close(prior, (clip - image) / MIN_NOISE_LEVEL)
    torch.testing.assert_close(residual_ratio(clip, image, clean), prior)
    assert image_noise_prior(clip.half(), image.half(), clean).isfinite().all()


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@pytest.mark.parametrize("timestep", LEVELS)
def test_linear_fusion_of_predictions_is_blending_of_clean_estimates(
    image: Tensor, clip: Tensor, prediction: Prediction, timestep: int
) -> None:
    sigma, alpha_bar = PAPER.sigma[timestep], PAPER.alpha_bar[timestep].expand(2)
    y = clip + sigma * torch.randn_like(clip)
    estimate = torch.randn_like(clip)
    residual = from_denoised(prediction, estimate, y, sigma)
    reference = reference_prediction(prediction, alpha_bar[0].sqrt() * y, image, alpha_bar)
    weights = fusion_weights(5, 0.9, 0.2).double()
    fused = to_denoised(prediction, linear_fusion(reference, residual, weights), y, sigma)
    torch.testing.assert_close(fused, linear_fusion(image, estimate, weights), rtol=0, atol=1e-5)


def test_linear_fusion_of_flow_velocities_is_blending_of_clean_estimates(image: Tensor, clip: Tensor) -> None:
    for sigma in (0.02, 0.5, 0.98):
        z = (1 - sigma) * clip + sigma * torch.randn_like(clip)
        estimate, weights = torch.randn_like(clip), fusion_weights(5, 1.0, 0.0).double()
        fused = linear_fusion((z - image) / sigma, (z - estimate) / sigma, weights)
        torch.testing.assert_close(z - sigma * fused, linear_fusion(image, estimate, weights), rtol=0, atol=1e-10)


def test_lambda_falls_linearly_and_its_limits_are_image_and_network_alone(image: Tensor, clip: Tensor) -> None:
    torch.testing.assert_close(fusion_weights(5, 1.0, 0.2), torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2]))
    torch.testing.assert_close(fusion_weights(1, 0.7, 0.2), torch.tensor([0.7]))
    torch.testing.assert_close(linear_fusion(image, clip, torch.ones(5)), image.expand_as(clip), rtol=0, atol=0)
    torch.testing.assert_close(linear_fusion(image, clip, torch.zeros(5)), clip, rtol=0, atol=0)


def test_a_residual_path_that_meets_its_target_makes_the_fusion_exact(image: Tensor, clip: Tensor) -> None:
    noise, alpha_bar = torch.randn_like(clip), PAPER.alpha_bar[[300, 900]]
    reference = image_noise_prior(add_noise(clip, noise, alpha_bar), image, alpha_bar)
    weights = fusion_weights(5, 0.9, 0.1).double()
    residual = residual_target(noise, reference, weights)
    torch.testing.assert_close(linear_fusion(reference, residual, weights), noise, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="lambda is below 1, got 1"):
        residual_target(noise, reference, fusion_weights(5, 1.0, 0.0))


def test_the_reference_is_the_training_target_of_a_still_clip(image: Tensor, clip: Tensor) -> None:
    noise, alpha_bar = torch.randn_like(clip), PAPER.alpha_bar[[10, 990]]
    still = image.expand_as(clip)
    for prediction in ("eps", "v", "x0"):
        reference = reference_prediction(prediction, add_noise(still, noise, alpha_bar), image, alpha_bar)
        torch.testing.assert_close(reference, target(prediction, still, noise, alpha_bar), rtol=0, atol=1e-9)


def test_what_does_not_fit_is_refused_in_one_sentence(image: Tensor, clip: Tensor) -> None:
    with pytest.raises(ValueError, match="encode one picture for each clip, at the clip's size"):
        image_noise_prior(clip, image[..., :4], torch.full((2,), 0.5))
    with pytest.raises(ValueError, match=r"\(2, 4, 1, 6, 6\) for this clip, got \(1, 4, 1, 6, 6\)"):
        image_noise_prior(clip, image[:1], torch.full((2,), 0.5))
    with pytest.raises(ValueError, match=r"alpha_bar must lie in \[0, 1\], got 0.5 to 1.2"):
        image_noise_prior(clip, image, torch.tensor([0.5, 1.2]))
    with pytest.raises(ValueError, match="lambda goes from 0 to 1"):
        fusion_weights(5, 1.5, 0.0)
