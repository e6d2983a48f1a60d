"""TRIP's two paths in the denoiser: the joined frame, the reference, and the fusion in every prediction."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from i2v_core.conditions import Conditions
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.guidance import ClassifierFreeGuidance
from i2v_core.diffusion.image_noise_prior import fusion_weights, linear_fusion
from i2v_core.diffusion.prediction import Prediction, add_noise, target
from i2v_core.diffusion.schedule import Schedule, ScheduleConfig
from i2v_core.methods import NetworkCall, TripMethod
from i2v_core.methods.trip import NoiseLevels, drop_image, join_image
from i2v_core.model.temporal_noise_fusion import (
    TemporalNoiseFusion,
    TemporalNoiseFusionConfig,
    initialize_temporal_noise_fusion,
)
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.model.visual_detail import with_image_latent
from tests.core.weights.small import SMALL, seed

SINGLE = ClassifierFreeGuidance(1.0)
# As ModelScope, with the image on concatenated channels, and as the demo: differences to the image.
BASES: dict[str, tuple[VideoUNetConfig, bool]] = {
    "text_to_video": (SMALL, False),
    "image_to_video": (replace(SMALL, in_channels=8), False),
    "differences": (replace(SMALL, in_channels=8), True),
    "image_tokens": (replace(SMALL, in_channels=8, image_gate="fixed"), False),
}


def given(config: VideoUNetConfig, frames: int = 3) -> tuple[Tensor, Conditions]:
    """A noised state and the conditions of two clips."""
    tokens = torch.randn(2, frames, 4, 64) if config.image_gate != "none" else None
    conditions = Conditions(text=torch.randn(2, 5, 64), image_latent=torch.randn(2, 4, 1, 8, 8), image_tokens=tokens)
    return torch.randn(2, 4, frames, 8, 8), conditions


def denoiser(base: str, prediction: Prediction = "eps", **fusion: object) -> Denoiser:
    config, image_residual = BASES[base]
    module = seed(TemporalNoiseFusion(TemporalNoiseFusionConfig(features=32, heads=2, **fusion)))  # type: ignore[arg-type]
    schedule = Schedule(ScheduleConfig(rescale_base=0.7))
    return Denoiser(seed(VideoUNet(config)), schedule, prediction, image_residual, (TripMethod.of(module),))


def fusion_of(denoiser: Denoiser) -> TemporalNoiseFusion:
    method = denoiser.find(TripMethod)
    assert method is not None and method.module is not None
    return method.module


@pytest.mark.parametrize("position", ["begin", "end", "channel"])
def test_the_joined_frame_comes_off_again(position: str) -> None:
    clip, image = torch.randn(1, 4, 3, 2, 2), torch.randn(1, 4, 1, 2, 2)
    joined = join_image(clip, image, position)  # type: ignore[arg-type]
    assert joined.shape[2] == 3 + (position != "channel")
    assert torch.equal(drop_image(joined, position), clip)  # type: ignore[arg-type]
    if position != "channel":
        assert torch.equal(joined[:, :, [0 if position == "begin" else -1]], image)


@torch.no_grad()
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_linear_fusion_blends_the_clean_estimate_with_the_image(base: str, prediction: Prediction) -> None:
    y, conditions = given(BASES[base][0])
    linear = denoiser(base, prediction, fusion="linear", first_lambda=0.9, last_lambda=0.3)
    alone = denoiser(base, prediction, fusion="none")
    sigma = torch.tensor(3.0)
    assert conditions.image_latent is not None
    expected = linear_fusion(
        conditions.image_latent, alone.denoise(y, sigma, conditions, None, SINGLE), fusion_weights(3, 0.9, 0.3)
    )
    torch.testing.assert_close(linear.denoise(y, sigma, conditions, None, SINGLE), expected, rtol=0, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("position", ["begin", "end"])
def test_lambda_one_gives_the_image_in_every_frame(position: str) -> None:
    y, conditions = given(SMALL)
    held = denoiser("text_to_video", fusion="linear", position=position, first_lambda=1.0, last_lambda=1.0)
    guidance = ClassifierFreeGuidance(4.0)
    result = held.denoise(y, torch.tensor(2.0), conditions, replace(conditions, text=torch.zeros(2, 5, 64)), guidance)
    assert conditions.image_latent is not None
    torch.testing.assert_close(result, conditions.image_latent.expand_as(y), rtol=0, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("base", BASES)
def test_a_learned_fusion_begins_as_the_residual_path_and_then_leaves_it(base: str) -> None:
    y, conditions = given(BASES[base][0])
    learned, alone = denoiser(base), denoiser(base, fusion="none")
    sigma, module = torch.tensor(3.0), fusion_of(learned)
    residual = alone.denoise(y, sigma, conditions, None, SINGLE)
    fused = learned.denoise(y, sigma, conditions, None, SINGLE)
    assert (fused - residual).abs().max() > 1e-3
    initialize_temporal_noise_fusion(module)
    torch.testing.assert_close(learned.denoise(y, sigma, conditions, None, SINGLE), residual, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("position", ["begin", "end", "channel"])
def test_the_residual_path_sees_the_image_where_it_is_joined(position: str) -> None:
    base = "image_to_video" if position == "channel" else "text_to_video"
    y, conditions = given(BASES[base][0])
    alone = denoiser(base, fusion="none", position=position)
    before = alone.predict(y, torch.tensor([500.0, 500.0]), conditions)
    assert before.shape == y.shape
    assert conditions.image_latent is not None
    other = replace(conditions, image_latent=conditions.image_latent + 1)
    assert (alone.predict(y, torch.tensor([500.0, 500.0]), other) - before).abs().max() > 1e-3


@torch.no_grad()
def test_an_image_convolution_of_its_own_is_a_base_with_more_channels() -> None:
    y, conditions = given(SMALL)
    times = torch.tensor([500.0, 500.0])
    alone = denoiser("text_to_video", fusion="none", position="channel", image_features=SMALL.model_channels)
    assert conditions.image_latent is not None
    wide = VideoUNet(replace(SMALL, in_channels=8))
    first = "input_blocks.0.0.weight"
    weights = alone.network.state_dict()
    weights[first] = torch.cat([weights[first], fusion_of(alone).image_in.weight], dim=1)
    wide.load_state_dict(weights)
    expected = wide(
        with_image_latent(y, conditions.image_latent, 8), times, conditions.text, pooled_text=conditions.pooled_text
    )
    torch.testing.assert_close(alone.predict(y, times, conditions), expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_a_residual_answer_is_the_one_of_frames_said_relative_to_the_image(prediction: Prediction) -> None:
    """A network that names no difference gives the image; one that names a clip's gives the clip."""
    y, conditions = given(SMALL)
    residual = denoiser("text_to_video", prediction, fusion="none", image_residual=True)
    assert conditions.image_latent is not None
    clip, sigma, method = torch.randn_like(y), torch.tensor(2.0), residual.methods[0]
    schedule, image = residual.schedule, conditions.image_latent
    time = schedule.timestep(sigma).expand(2)
    levels = NoiseLevels.of(NetworkCall(y, time, conditions), schedule)
    assert isinstance(method, TripMethod)
    for clean in (image.expand_as(clip), clip):
        noise = torch.randn_like(clip)
        z = add_noise(levels.scale * clean, noise, levels.alpha_bar)
        seen: list[Tensor] = []

        def network(
            call: NetworkCall, noise: Tensor = noise, clean: Tensor = clean, seen: list[Tensor] = seen
        ) -> Tensor:
            seen.append(call.x)
            answer = target(prediction, levels.scale * (clean - image), noise, levels.alpha_bar)
            return torch.cat([torch.zeros_like(image), answer], dim=2)

        answer = method.residual(NetworkCall(z, time, conditions), network, schedule, prediction)
        wanted = target(prediction, levels.scale * clean, noise, levels.alpha_bar)
        torch.testing.assert_close(answer, wanted, rtol=0, atol=2e-5)
        noised = add_noise(levels.scale * (clean - image), noise, levels.alpha_bar)
        torch.testing.assert_close(seen[0][:, :, 1:], noised, rtol=0, atol=2e-5)
        assert torch.equal(seen[0][:, :, :1], image)


def test_gradients_reach_fusion_and_network_alike() -> None:
    learned = denoiser("text_to_video")
    y, conditions = given(SMALL)
    learned.predict(y, torch.tensor([10.0, 700.0]), conditions).square().mean().backward()
    for network in (learned.network, fusion_of(learned)):
        assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_what_does_not_fit_is_refused_in_one_sentence() -> None:
    y, conditions = given(SMALL)
    learned, times = denoiser("text_to_video"), torch.tensor([5.0, 5.0])
    with pytest.raises(ValueError, match="image_latent is needed, got None"):
        learned.predict(y, times, replace(conditions, image_latent=None))
    with pytest.raises(ValueError, match="encode one picture for each clip, at the clip's size"):
        learned.predict(y, times, replace(conditions, image_latent=torch.zeros(2, 4, 1, 8, 6)))
    with pytest.raises(ValueError, match=r"timesteps must lie in \[0, 1000\), got 5 to 1000"):
        learned.predict(y, torch.tensor([5.0, 1000.0]), conditions)
    with pytest.raises(ValueError, match="no channels for the given image"):
        denoiser("text_to_video", position="channel")
