"""A video in pieces is the video at once, in memory that does not grow."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from i2v_core.conditions import Conditions
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.guidance import ClassifierFreeGuidance
from i2v_core.diffusion.initialization import InitializationName
from i2v_core.diffusion.schedule import Schedule
from i2v_core.methods import LookBackMethod
from i2v_core.methods.look_back import LookBackOptions
from i2v_core.model.look_back import LookBack, LookBackConfig, LookBackState, find_sites
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.sampling import SamplingConfig, sample, sample_pieces
from tests.core.weights.small import SMALL, SMALL_IMAGE_MODEL, seed

SAMPLING = SamplingConfig(3, "trailing", ClassifierFreeGuidance(2.0))
SHAPE = (1, 4, 9, 8, 8)


def denoiser(
    unet: VideoUNetConfig = SMALL_IMAGE_MODEL, initialization: InitializationName = "hybrid", **settings: str
) -> Denoiser:
    sites = find_sites("stage", unet.model_channels, unet.channel_mult, unet.num_res_blocks)
    torch.manual_seed(0)
    look_back = LookBack(replace(LookBackConfig(adapter="causal", sites=sites), **settings)).eval()  # type: ignore[arg-type]
    method = LookBackMethod.of(look_back, LookBackOptions(initialization))
    return Denoiser(seed(VideoUNet(unet)), Schedule(), "v", methods=(method,))


def conditions(branch: int) -> Conditions:
    generator = torch.Generator().manual_seed(branch)
    image = torch.randn(1, 4, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    return Conditions(text=torch.randn(1, 5, 64, generator=generator), image_latent=image)


def noise() -> Tensor:
    return torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(3))[None]


@torch.no_grad()
def at_once(maker: Denoiser) -> Tensor:
    return sample(maker, conditions(0), conditions(1), SHAPE, SAMPLING, seeds=[3])


@pytest.mark.parametrize("initialization", ["hybrid", "add_noise", "inversion"])
def test_pieces_are_the_video_at_once_with_the_causal_adapter(initialization: InitializationName) -> None:
    maker = denoiser(initialization=initialization)
    pieces = list(sample_pieces(maker, conditions(0), conditions(1), noise(), SAMPLING, frames=3))
    assert [piece.shape[2] for piece in pieces] == [3, 3, 3]
    whole = at_once(maker)
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole, rtol=0, atol=1e-4 * whole.abs().max().item())


def test_the_centered_adapter_makes_pieces_differ_from_the_video_at_once() -> None:
    maker = denoiser(adapter="centered")
    pieces = torch.cat(list(sample_pieces(maker, conditions(0), conditions(1), noise(), SAMPLING, frames=3)), dim=2)
    assert (pieces - at_once(maker)).abs().max() > 1e-3


def test_what_is_carried_does_not_grow() -> None:
    states = [LookBackState("cpu") for _ in range(3)]
    unguided = replace(SAMPLING, guidance=ClassifierFreeGuidance(1.0))
    pieces = sample_pieces(denoiser(), conditions(0), None, noise(), unguided, frames=2, states=states)
    sizes = [sum(state.nbytes for state in states) for _ in pieces]
    assert len(sizes) == 5
    assert len(set(sizes)) == 1
    assert sizes[0] > 0


def test_pieces_that_cannot_be_joined_are_refused() -> None:
    def first(maker: Denoiser, sampling: SamplingConfig = SAMPLING, frames: int = 3) -> None:
        next(sample_pieces(maker, conditions(0), conditions(1), noise(), sampling, frames=frames))

    with pytest.raises(ValueError, match="needs look-back"):
        first(replace(denoiser(), methods=()))
    with pytest.raises(ValueError, match="without temporal layers"):
        first(denoiser(SMALL))
    with pytest.raises(ValueError, match="at least one frame, got 0"):
        first(denoiser(), frames=0)
    with pytest.raises(ValueError, match=r"without fresh noise, got eta 1\.0"):
        first(denoiser(), replace(SAMPLING, eta=1.0))
