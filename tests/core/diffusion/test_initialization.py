"""The first frame under its three initializations."""

import pytest
import torch

from i2v_core.diffusion.initialization import FREE, Initialization, InitializationName, invert, pin_first
from i2v_core.diffusion.samplers import sample_ddim
from i2v_core.diffusion.schedule import Schedule

SIGMAS = Schedule().sigmas(50, "trailing")
GIVEN = torch.randn(1, 4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(1, 4, 5, 3, 3, generator=torch.Generator().manual_seed(1))


def gaussian_denoise(y: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The exact denoiser of data with mean 0 and variance 1/4."""
    return y * (0.25 / (0.25 + sigma**2)).to(y)


def test_pinning_replaces_the_first_frame_and_nothing_else() -> None:
    pinned = pin_first(NOISE, GIVEN)
    assert torch.equal(pinned[:, :, :1], GIVEN)
    assert torch.equal(pinned[:, :, 1:], NOISE[:, :, 1:])


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one frame of the clip's shape \(1, 4, 1, 3, 3\), got \(1, 4, 1, 3, 4\)"):
        pin_first(NOISE, torch.zeros(1, 4, 1, 3, 4))


def test_only_hybrid_shows_the_network_the_clean_frame() -> None:
    assert torch.equal(Initialization("hybrid").input(NOISE, GIVEN), pin_first(NOISE, GIVEN))
    names: tuple[InitializationName, ...] = ("add_noise", "inversion")
    for initialization in names:
        assert torch.equal(Initialization(initialization).input(NOISE, GIVEN), NOISE)


def test_the_loss_leaves_out_the_frame_that_hybrid_knows() -> None:
    assert torch.equal(Initialization("hybrid").in_loss(NOISE), NOISE[:, :, 1:])
    names: tuple[InitializationName, ...] = ("add_noise", "inversion")
    for initialization in names:
        assert torch.equal(Initialization(initialization).in_loss(NOISE), NOISE)


def test_add_noise_keeps_the_first_frame_at_the_level_of_every_step_by_the_same_noise() -> None:
    add_noise = Initialization("add_noise")

    def denoise(y: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        torch.testing.assert_close(y[:, :, :1], GIVEN + sigma.to(y) * NOISE[:, :, :1], rtol=1e-4, atol=1e-4)
        return add_noise.estimate(gaussian_denoise(y, sigma), GIVEN)

    start = add_noise.start(NOISE * SIGMAS[0].item(), GIVEN, SIGMAS, gaussian_denoise)
    assert torch.equal(sample_ddim(denoise, start, SIGMAS)[:, :, :1], GIVEN)


def test_sampling_from_the_inverted_noise_leads_back_to_the_given_frame() -> None:
    sigmas = Schedule().sigmas(500, "trailing")
    back = sample_ddim(gaussian_denoise, invert(gaussian_denoise, GIVEN, sigmas), sigmas)
    torch.testing.assert_close(back, GIVEN, rtol=0.1, atol=0.01)
    random = sample_ddim(gaussian_denoise, NOISE[:, :, :1] * sigmas[0].item(), sigmas)
    assert (random - GIVEN).abs().mean() > 10 * (back - GIVEN).abs().mean()


@pytest.mark.parametrize("initialization", ["hybrid", "add_noise", "inversion"])
def test_the_other_frames_begin_as_their_noise(initialization: InitializationName) -> None:
    start = Initialization(initialization).start(NOISE, GIVEN, SIGMAS, gaussian_denoise)
    assert torch.equal(start[:, :, 1:], NOISE[:, :, 1:])


def test_a_free_clip_is_left_alone() -> None:
    for made in (FREE.input(NOISE, None), FREE.estimate(NOISE, None), FREE.in_loss(NOISE), FREE.result(NOISE, None)):
        assert made is NOISE
    assert FREE.start(NOISE, None, SIGMAS, gaussian_denoise) is NOISE


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="initialization must be one of"):
        Initialization("random")  # type: ignore[arg-type]
