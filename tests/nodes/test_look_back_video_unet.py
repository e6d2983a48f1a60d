"""Look-back on this pack's own U-Nets in the host, alone and beside temporal layers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

Core = Callable[[str], Any]
IMAGE_ONLY = {"temporal_convolution": False, "temporal_attention": False}


@pytest.fixture(scope="module")
def image_model(save: Callable[..., Any], load: Callable[[Any], Any]) -> Any:
    """The shape of the demo's image base: the given image on further channels, and differences to it."""
    return load(save("image_demo", "demo", **IMAGE_ONLY))


@pytest.fixture(scope="module")
def moving(look_back_adapter: Callable[..., Any]) -> Any:
    return look_back_adapter("video_moving", 0.3, adapter="causal", placement="block")


def encoded(node_classes: dict[str, Any], loaded: Any, seed: int = 0) -> Any:
    image = torch.rand(1, 40, 60, 3, generator=torch.Generator().manual_seed(seed))
    return node_classes["I2VEncodeImage"].execute(loaded.vae, image, 32, 32, "crop").result[0]


def sampled(model: Any, given: Any, sigmas: torch.Tensor) -> torch.Tensor:
    """Latents `t c h w` of the host's custom sampler, guided by 2."""
    from comfy_extras.nodes_custom_sampler import CFGGuider, KSamplerSelect, RandomNoise, SamplerCustomAdvanced

    (guider,) = CFGGuider.execute(model, given.positive, given.negative, 2.0).result
    (noise,), (sampler,) = RandomNoise.execute(5).result, KSamplerSelect.execute("euler").result
    return SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, given.latent).result[0]["samples"]


def test_auto_begins_as_the_adapter_was_trained_and_other_noise_is_refused(
    image_model: Any, moving: Any, prepare: Callable[..., Any], node_classes: dict[str, Any]
) -> None:
    image, given = encoded(node_classes, image_model), prepare(image_model, frames=3)
    noised = {"i2v.train_options": '{"initialization": "add_noise"}'}
    adapters = {name: trained_with(moving, each) for name, each in (("hybrid", {}), ("add_noise", noised))}

    def begun(adapter: Any, *initialization: str) -> torch.Tensor:
        (model,) = node_classes["I2VApplyLookBack"].execute(image_model.model, adapter, image, *initialization).result
        return sampled(model, given, torch.tensor([2.0, 0.5, 0.0]))

    expected = {name: begun(moving, name) for name in adapters}
    assert not torch.equal(expected["hybrid"], expected["add_noise"])
    for name, adapter in adapters.items():
        assert torch.equal(begun(adapter), expected[name])
        assert torch.equal(begun(adapter, "auto"), expected[name])
    with pytest.raises(ValueError, match="trained on linear betas"):
        begun(trained_with(moving, {"i2v.betas": "linear"}))


def trained_with(adapter: Any, metadata: dict[str, str]) -> Any:
    return replace(adapter, contents=replace(adapter.contents, metadata=metadata))


@pytest.mark.parametrize("initialization", ["hybrid", "add_noise", "inversion"])
@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_node_equals_the_core(
    core: Core,
    tiny: Any,
    image_model: Any,
    moving: Any,
    prepare: Callable[..., Any],
    node_classes: dict[str, Any],
    kind: str,
    initialization: str,
) -> None:
    loaded = image_model if kind == "image" else tiny
    given, checkpoint = prepare(loaded, frames=5), loaded.saved.checkpoint
    image = encoded(node_classes, loaded)
    (patched,) = node_classes["I2VApplyLookBack"].execute(loaded.model, moving, image, initialization).result

    look_back = core("model.look_back").LookBack(moving.contents.config)
    look_back.load_state_dict(moving.contents.tensors)
    options = core("methods.look_back").LookBackOptions(initialization)
    method = core("methods").LookBackMethod.of(look_back, options)
    denoiser = core("denoiser").Denoiser.of(checkpoint.unet, checkpoint.preset, method)
    latent = loaded.model.model.process_latent_in(image.latent)[:, :, None]
    both = (
        core("conditions").Conditions(text=text, pooled_text=more["pooled_output"], image_latent=latent)
        for ((text, more),) in (given.positive, given.negative)
    )
    conditional, unconditional = both
    # Below the largest level, where the host scales noise as the core does.
    sigmas = denoiser.schedule.sigmas(5, "trailing")[2:].float()
    noise = torch.randn(given.latent["samples"].shape, generator=torch.manual_seed(5))
    state = noise.movedim(0, 1)[None] * sigmas[0]
    guidance = core("diffusion.guidance").ClassifierFreeGuidance(2.0)
    expected = core("diffusion.samplers").sample_euler(
        lambda y, sigma: denoiser.denoise(y, sigma, conditional, unconditional, guidance),
        denoiser.start(state, sigmas, conditional),
        sigmas,
    )
    video = sampled(patched, given, sigmas)
    assert torch.equal(video[:1], image.latent)
    rows = loaded.model.model.process_latent_out(expected)[0].movedim(0, 1)
    scale = rows.abs().max()
    assert (video[1:] - rows[1:]).abs().max() < 1e-4 * scale
    assert (sampled(loaded.model, given, sigmas)[1:] - rows[1:]).abs().max() > 1e-2 * scale


def test_an_image_model_makes_long_videos_in_pieces_and_a_temporal_one_says_why_not(
    tiny: Any, image_model: Any, moving: Any, prepare: Callable[..., Any], sample: Callable[..., Any],
    node_classes: dict[str, Any],
) -> None:  # fmt: skip
    apply = node_classes["I2VApplyLookBack"].execute
    given, image = prepare(image_model, frames=12), encoded(node_classes, image_model)
    whole, pieces = (sample(apply(image_model.model, moving, image, "hybrid", n).result[0], given) for n in (0, 3))
    assert (pieces - whole).abs().max() < 1e-4 * whole.abs().max()
    two = replace(given, latent={"samples": given.latent["samples"].repeat(2, 1, 1, 1)})
    both = sample(apply(image_model.model, moving, image, "hybrid", 3).result[0], two)
    assert (both[:12] - whole).abs().max() < 1e-4 * whole.abs().max()
    with pytest.raises(ValueError, match="temporal layers see all frames at once"):
        apply(tiny.model, moving, image, "hybrid", 3)


@pytest.mark.parametrize("trip_last", [False, True])
def test_trip_joins_its_frame_to_the_inverted_one_too_and_to_no_piece(
    image_model: Any, moving: Any, prepare: Callable[..., Any], sample: Callable[..., Any],
    node_classes: dict[str, Any], trip_last: bool,
) -> None:  # fmt: skip
    given, image = prepare(image_model, frames=5), encoded(node_classes, image_model)

    def applied(initialization: str, pieces: int, position: str = "begin") -> Any:
        model = image_model.model
        for last in (False, True):
            if last == trip_last:
                trip = node_classes["I2VApplyTRIP"].execute
                (model,) = trip(model, image, "none", 1.0, 0.0, position=position).result
            else:
                look_back = node_classes["I2VApplyLookBack"].execute
                (model,) = look_back(model, moving, image, initialization, pieces).result
        return model

    assert torch.equal(sample(applied("inversion", 0), given)[:1], image.latent)
    whole, pieces = (sample(applied("hybrid", count, "channel"), given) for count in (0, 2))
    assert (pieces - whole).abs().max() < 1e-4 * whole.abs().max()
    with pytest.raises(ValueError, match="would stand in every piece of it"):
        sample(applied("hybrid", 2), given)


def test_weights_trained_along_come_with_the_adapter_and_leave_with_it(
    image_model: Any, look_back_adapter: Callable[..., Any], prepare: Callable[..., Any],
    sample: Callable[..., Any], node_classes: dict[str, Any],
) -> None:  # fmt: skip
    apply = node_classes["I2VApplyLookBack"].execute
    given, image = prepare(image_model), encoded(node_classes, image_model)
    before = sample(image_model.model, given)
    name = "out.2.weight"
    weight = image_model.saved.checkpoint.unet.state_dict()[name]
    tuned = look_back_adapter("tuned", unet={name: weight * 2})
    plain = look_back_adapter("untuned")
    with_plain, with_tuned = (sample(apply(image_model.model, a, image).result[0], given) for a in (plain, tuned))
    assert (with_tuned - with_plain)[1:].abs().max() > 1e-3
    assert torch.equal(sample(image_model.model, given), before)


def test_frames_agree_with_a_new_adapter_beside_temporal_layers(
    tiny: Any, look_back_adapter: Callable[..., Any], prepare: Callable[..., Any], sample: Callable[..., Any],
    node_classes: dict[str, Any],
) -> None:  # fmt: skip
    given, image = prepare(tiny), encoded(node_classes, tiny)
    apply = node_classes["I2VApplyLookBack"].execute
    identity = apply(tiny.model, look_back_adapter("video_identity"), image, "inversion").result[0]
    options = {"wrappers": identity.wrappers, "cond_or_uncond": [0]}
    unet, x = tiny.model.model.diffusion_model, torch.randn(4, 24, 8, 8)
    arguments = (x, torch.full((4,), 300.0), torch.randn(4, 7, 64), torch.randn(4, 64))
    plain = unet(*arguments, num_video_frames=4)
    assert torch.equal(unet(*arguments, transformer_options=options, num_video_frames=4), plain)
    assert sample(identity, given).isfinite().all()
