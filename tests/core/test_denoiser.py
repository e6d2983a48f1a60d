"""The denoiser joins the parts without adding anything of its own."""

import pytest
import torch
from torch import Tensor, nn

from i2v_core.conditions import Conditions
from i2v_core.denoiser import Denoiser, first_and_last, with_image_latent
from i2v_core.diffusion.guidance import ClassifierFreeGuidance
from i2v_core.diffusion.prediction import Prediction, add_noise, target
from i2v_core.diffusion.schedule import Schedule, ScheduleConfig
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig

CONFIG = VideoUNetConfig(
    in_channels=8, model_channels=32, channel_mult=(1,), num_res_blocks=1, attention_levels=(), head_dim=32,
    context_dim=16, init_attention=False,
)  # fmt: skip


class Oracle(nn.Module):
    """A network that knows the answer, and counts its passes."""

    config = CONFIG

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer, self.passes = answer, 0

    def forward(self, *_: Tensor, **__: Tensor | None) -> Tensor:
        self.passes += 1
        return self.answer


@pytest.fixture
def conditions() -> Conditions:
    return Conditions(text=torch.randn(2, 5, 16), image_latent=torch.randn(2, 4, 1, 8, 8))


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@pytest.mark.parametrize("rescale_base", [None, 0.7])
def test_a_network_that_answers_its_training_target_is_denoised_exactly(
    conditions: Conditions, prediction: Prediction, rescale_base: float | None
) -> None:
    schedule = Schedule(ScheduleConfig(zero_terminal_snr=True, rescale_base=rescale_base))
    clean, noise = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 4, 3, 8, 8)
    timestep = 600
    scale = schedule.scale[timestep].float()
    answer = target(prediction, scale * clean, noise, schedule.alpha_bar[timestep].float().expand(2))
    sigma = schedule.sigma[timestep].float()
    denoiser = Denoiser(Oracle(answer), schedule, prediction)  # type: ignore[arg-type]
    denoised = denoiser.denoise(clean + sigma * noise, sigma, conditions, None, ClassifierFreeGuidance(1.0))
    torch.testing.assert_close(denoised, clean, rtol=0, atol=1e-4)


def test_a_pass_of_no_weight_is_not_run(conditions: Conditions) -> None:
    oracle = Oracle(torch.randn(2, 4, 3, 8, 8))
    denoiser = Denoiser(oracle, Schedule(), "eps")  # type: ignore[arg-type]
    y, sigma = torch.randn(2, 4, 3, 8, 8), torch.tensor(2.0)
    denoiser.denoise(y, sigma, conditions, conditions, ClassifierFreeGuidance(1.0))
    assert oracle.passes == 1
    denoiser.denoise(y, sigma, conditions, conditions, ClassifierFreeGuidance(3.0))
    assert oracle.passes == 3


def test_training_and_generation_see_the_same_network(conditions: Conditions) -> None:
    denoiser = Denoiser(VideoUNet(CONFIG).eval(), Schedule(), "v")
    clean, noise = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 4, 3, 8, 8)
    alpha_bar = denoiser.schedule.alpha_bar[500].float()
    z = add_noise(clean, noise, alpha_bar.expand(2))
    raw = denoiser.predict(z, torch.full((2,), 500), conditions)
    sigma = denoiser.schedule.sigma[500].float()
    denoised = denoiser.denoise(clean + sigma * noise, sigma, conditions, None, ClassifierFreeGuidance(1.0))
    expected = alpha_bar.sqrt() * z - (1 - alpha_bar).sqrt() * raw
    torch.testing.assert_close(denoised, expected, rtol=1e-3, atol=1e-3)


def test_the_given_image_is_joined_to_every_frame_and_never_noised() -> None:
    z, image = torch.randn(1, 4, 3, 2, 2), torch.randn(1, 4, 1, 2, 2)
    joined = with_image_latent(z, image, 8)
    for frame in range(3):
        torch.testing.assert_close(joined[:, 4:, frame], image[:, :, 0])
    torch.testing.assert_close(joined[:, :4], z)


def test_a_missing_or_superfluous_image_latent_is_named() -> None:
    z, image = torch.randn(1, 4, 3, 2, 2), torch.randn(1, 4, 1, 2, 2)
    with pytest.raises(ValueError, match="4 of the given image; the image latent has 0"):
        with_image_latent(z, None, 8)
    with pytest.raises(ValueError, match="0 of the given image; the image latent has 4"):
        with_image_latent(z, image, 4)


def test_guidance_without_unconditional_conditions_says_what_to_do(conditions: Conditions) -> None:
    denoiser = Denoiser(Oracle(torch.zeros(2, 4, 3, 8, 8)), Schedule(), "eps")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pass them or scale 1"):
        denoiser.denoise(torch.zeros(2, 4, 3, 8, 8), torch.tensor(1.0), conditions, None, ClassifierFreeGuidance(2.0))


@pytest.mark.parametrize("frames", [2, 3, 16])
def test_interpolation_pins_both_ends_and_leaves_zeros_between(frames: int) -> None:
    first, last = torch.randn(2, 4, 1, 8, 8), torch.randn(2, 4, 1, 8, 8)
    clip = first_and_last(first, last, frames)
    assert clip.shape == (2, 4, frames, 8, 8)
    assert torch.equal(clip[:, :, :1], first)
    assert torch.equal(clip[:, :, -1:], last)
    assert not clip[:, :, 1:-1].any()
    joined = with_image_latent(torch.randn(2, 4, frames, 8, 8), clip, 8)
    assert torch.equal(joined[:, 4:], clip)


def test_two_ends_of_different_sizes_or_one_frame_are_refused() -> None:
    first = torch.randn(1, 4, 1, 8, 8)
    with pytest.raises(ValueError, match="must be of one shape"):
        first_and_last(first, torch.randn(1, 4, 1, 8, 4), 4)
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        first_and_last(first, first, 1)
