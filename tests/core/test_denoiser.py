"""The denoiser joins the parts without adding anything of its own."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from i2v_core.conditions import Conditions, join_conditions, white
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.guidance import ClassifierFreeGuidance, DualGuidance
from i2v_core.diffusion.initialization import InitializationName
from i2v_core.diffusion.prediction import Prediction, add_noise, target
from i2v_core.diffusion.schedule import Schedule, ScheduleConfig
from i2v_core.methods import ImageRetentionMethod, LookBackMethod
from i2v_core.methods.look_back import LookBackOptions
from i2v_core.model.image_retention import ImageRetention, ImageRetentionConfig
from i2v_core.model.look_back import LookBack, LookBackConfig, LookBackState, initialize_look_back
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.model.visual_detail import first_and_last, with_image_latent
from i2v_core.sampling import SamplingConfig, sample
from tests.core.weights.small import seed

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


@torch.no_grad()
def test_a_network_that_sees_the_image_in_tokens_may_have_no_channels_for_its_latent(conditions: Conditions) -> None:
    config = replace(CONFIG, in_channels=4, image_gate="fixed", image_token_layout="shared")
    denoiser, z = Denoiser(seed(VideoUNet(config)), Schedule(), "eps"), torch.randn(2, 4, 3, 8, 8)
    times = torch.full((2,), 500.0)
    seen = replace(conditions, image_tokens=torch.randn(2, 16, 16))
    assert torch.equal(denoiser.predict(z, times, seen), denoiser.predict(z, times, replace(seen, image_latent=None)))
    with pytest.raises(ValueError, match="the image latent has 4"):
        denoiser.predict(z, times, conditions)


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


@pytest.fixture(scope="module")
def retaining() -> Denoiser:
    """A small base that estimates differences to the given image, with a branch that has an effect."""
    base = seed(VideoUNet(CONFIG))
    branch = seed(ImageRetention.beside(base, ImageRetentionConfig(stem_channels=(4, 8))))
    return Denoiser(base, Schedule(), "v", image_residual=True, methods=(ImageRetentionMethod(branch),))


def branch_conditions(number: int, clips: int = 2) -> Conditions:
    generator = torch.Generator().manual_seed(number)
    return Conditions(
        text=torch.randn(clips, 5, 16, generator=generator),
        image_latent=torch.randn(clips, 4, 1, 8, 8, generator=generator),
        image=torch.rand(clips, 3, 16, 16, generator=generator) * 2 - 1,
    )


STATE, SIGMA = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(9)), torch.tensor(2.0)


@torch.no_grad()
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@pytest.mark.parametrize(("text", "image"), [(1.0, 1.0), (3.0, 0.0), (3.0, 3.0), (4.0, 2.0)])
def test_branches_with_origins_of_their_own_combine_as_their_clean_clips_do(
    retaining: Denoiser, prediction: Prediction, text: float, image: float
) -> None:
    denoiser, branches = replace(retaining, prediction=prediction), [branch_conditions(i) for i in range(3)]
    only = ClassifierFreeGuidance(1.0)
    full, single, null = (denoiser.denoise(STATE, SIGMA, each, None, only) for each in branches)
    guided = denoiser.denoise_branches(STATE, SIGMA, branches, DualGuidance(text, image).at(0))
    expected = null + text * (single - null) + image * (full - single)
    torch.testing.assert_close(guided, expected, rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_passes_together_and_in_turn_are_equal(retaining: Denoiser, rescale: float) -> None:
    branches, weights = [branch_conditions(i) for i in range(3)], DualGuidance(4.0, 2.0, rescale=rescale).at(0)
    in_turn = retaining.denoise_branches(STATE, SIGMA, branches, weights)
    together = retaining.denoise_branches(STATE, SIGMA, branches, weights, together=True)
    torch.testing.assert_close(together, in_turn, rtol=0, atol=1e-4)


@torch.no_grad()
def test_passes_that_do_not_fit_into_memory_together_run_in_turn(retaining: Denoiser) -> None:
    class Tight(VideoUNet):
        def forward(self, x: Tensor, *further: Tensor, **named: object) -> Tensor:  # type: ignore[override]
            if len(x) > 2:
                raise torch.OutOfMemoryError("no room for more than two clips")
            return super().forward(x, *further, **named)  # type: ignore[arg-type]

    tight = Tight(CONFIG)
    tight.load_state_dict(retaining.network.state_dict())
    branches, weights = [branch_conditions(i) for i in range(3)], DualGuidance(4.0, 2.0).at(0)
    guided = replace(retaining, network=tight).denoise_branches(STATE, SIGMA, branches, weights, together=True)
    torch.testing.assert_close(guided, retaining.denoise_branches(STATE, SIGMA, branches, weights))


def test_conditions_of_other_shapes_are_not_joined() -> None:
    one, other = branch_conditions(0), replace(branch_conditions(1), text=torch.zeros(2, 7, 16))
    assert join_conditions([one, other]) is None
    assert join_conditions([one, replace(one, image=None)]) is None
    joined = join_conditions([one, branch_conditions(1, clips=1)])
    assert joined is not None and joined.image is not None
    assert len(joined.text) == 3 and torch.equal(joined.image[:2], one.image)  # type: ignore[arg-type]


@torch.no_grad()
def test_a_hint_found_once_is_the_hint_of_every_step(retaining: Denoiser) -> None:
    given = branch_conditions(0)
    prepared = retaining.prepare(given)
    assert prepared.image_hint is not None
    assert retaining.prepare(prepared) is prepared
    z, timesteps = torch.randn(2, 4, 3, 8, 8), torch.full((2,), 300)
    assert torch.equal(retaining.predict(z, timesteps, given), retaining.predict(z, timesteps, prepared))


@torch.no_grad()
def test_a_white_image_is_another_image_and_no_image_is_an_error(retaining: Denoiser) -> None:
    given = branch_conditions(0)
    null = replace(given, image=white(given.image))  # type: ignore[arg-type]
    z, timesteps = torch.randn(2, 4, 3, 8, 8), torch.full((2,), 300)
    assert not torch.equal(retaining.predict(z, timesteps, given), retaining.predict(z, timesteps, null))
    with pytest.raises(ValueError, match="image retention needs the given image's pixels"):
        retaining.prepare(replace(given, image=None))


def test_a_branch_of_another_base_is_refused() -> None:
    other = VideoUNet(replace(CONFIG, model_channels=64))
    branch = ImageRetention.beside(other, ImageRetentionConfig(stem_channels=(4, 8)))
    with pytest.raises(ValueError, match="trained beside another base, whose model_channels is 64 and the model's 32"):
        Denoiser(VideoUNet(CONFIG), Schedule(), "v", methods=(ImageRetentionMethod(branch),))


def test_branches_that_are_missing_or_of_another_size_are_named(retaining: Denoiser) -> None:
    weights, full = DualGuidance(4.0, 2.0).at(0), branch_conditions(0)
    with pytest.raises(ValueError, match=r"needs the branches \[0, 1, 2\], got \[True, False, True\]"):
        retaining.denoise_branches(STATE, SIGMA, (full, None, full), weights)
    with pytest.raises(ValueError, match="every branch needs conditions of the 2 clips, got 3"):
        retaining.denoise_branches(STATE, SIGMA, (full, branch_conditions(1, clips=3), full), weights)


def with_look_back(
    in_channels: int = 8, initialization: InitializationName = "hybrid", image_residual: bool = False,
    sites: tuple[str, ...] = ("middle_0",),
) -> Denoiser:  # fmt: skip
    look_back = seed(LookBack(LookBackConfig(sites=dict.fromkeys(sites, 32))))
    network = seed(VideoUNet(replace(CONFIG, in_channels=in_channels)))
    method = LookBackMethod.of(look_back, LookBackOptions(initialization))
    return Denoiser(network, Schedule(), "v", image_residual, (method,))


@pytest.mark.parametrize("image_residual", [False, True])
@pytest.mark.parametrize("initialization", ["hybrid", "add_noise", "inversion"])
@torch.no_grad()
def test_a_look_back_clip_begins_with_the_given_image_exactly(
    conditions: Conditions, initialization: InitializationName, image_residual: bool
) -> None:
    denoiser = with_look_back(initialization=initialization, image_residual=image_residual)
    sampling = SamplingConfig(3, "trailing", ClassifierFreeGuidance(2.0))
    latents = sample(denoiser, conditions, conditions, (2, 4, 3, 8, 8), sampling, seeds=[0, 1])
    assert torch.equal(latents[:, :, :1], conditions.image_latent)  # type: ignore[arg-type]
    assert torch.isfinite(latents).all()


@torch.no_grad()
def test_look_back_serves_a_network_that_takes_no_image_on_its_channels(conditions: Conditions) -> None:
    y, sigma = torch.randn(2, 4, 3, 8, 8), torch.tensor(2.0)
    denoised = with_look_back(4).denoise(y, sigma, conditions, conditions, ClassifierFreeGuidance(2.0))
    assert torch.equal(denoised[:, :, :1], conditions.image_latent)  # type: ignore[arg-type]


@torch.no_grad()
def test_under_hybrid_the_noise_of_the_first_frame_does_not_count(conditions: Conditions) -> None:
    denoiser, sigma = with_look_back(), torch.tensor(2.0)
    y = torch.randn(2, 4, 3, 8, 8)
    other = torch.cat([torch.randn(2, 4, 1, 8, 8), y[:, :, 1:]], dim=2)
    guidance = ClassifierFreeGuidance(1.0)
    first, second = (denoiser.denoise(state, sigma, conditions, None, guidance) for state in (y, other))
    assert torch.equal(first, second)


@torch.no_grad()
def test_both_guidance_branches_in_one_run_are_those_of_two(conditions: Conditions) -> None:
    unconditional = replace(conditions, text=torch.randn(2, 5, 16))
    y, sigma, denoiser = torch.randn(2, 4, 3, 8, 8), torch.tensor(2.0), with_look_back()
    alone = [denoiser.denoise(y, sigma, c, None, ClassifierFreeGuidance(1.0)) for c in (conditions, unconditional)]
    joined = denoiser.denoise(y, sigma, conditions, unconditional, ClassifierFreeGuidance(3.0))
    torch.testing.assert_close(joined, alone[1] + 3 * (alone[0] - alone[1]), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_new_look_back_leaves_the_prediction_as_it_was(conditions: Conditions) -> None:
    denoiser = with_look_back()
    method = denoiser.find(LookBackMethod)
    assert method is not None
    initialize_look_back(method.module)
    z, timesteps = torch.randn(2, 4, 3, 8, 8), torch.full((2,), 500)
    without = replace(denoiser, methods=())
    assert torch.equal(denoiser.predict(z, timesteps, conditions), without.predict(z, timesteps, conditions))


def test_look_back_without_a_given_image_or_for_another_network_is_refused(conditions: Conditions) -> None:
    y, sigma = torch.randn(2, 4, 3, 8, 8), torch.tensor(2.0)
    without = replace(conditions, image_latent=None)
    with pytest.raises(ValueError, match="look-back begins with a given image"):
        with_look_back(4).denoise(y, sigma, without, None, ClassifierFreeGuidance(1.0))
    with pytest.raises(ValueError, match="needs block 'output_7' with 32 channels, which in this model is missing"):
        with_look_back(sites=("output_7",))
    other = replace(conditions, fps=torch.ones(2))
    with pytest.raises(ValueError, match="needs conditions of one shape in all guidance branches"):
        with_look_back().denoise(y, sigma, conditions, other, ClassifierFreeGuidance(2.0), carried=LookBackState())
