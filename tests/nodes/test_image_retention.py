"""Image retention in the host: its branch beside the model, and the image of each condition."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

FRAMES = 4


@pytest.fixture(scope="module")
def branch(tiny: Any, core: Callable[[str], Any]) -> Any:
    """A branch of the tiny model that has an effect."""
    retention = core("model.image_retention")
    with torch.random.fork_rng(), torch.inference_mode(False):
        torch.manual_seed(1)
        made = retention.ImageRetention.beside(
            tiny.saved.checkpoint.unet, retention.ImageRetentionConfig(stem_channels=(4, 8, 8))
        )
        for convolution in (*made.skips, made.middle):
            torch.nn.init.normal_(convolution.weight, std=0.1)
    return made.eval()


@pytest.fixture
def adapter(core: Callable[[str], Any], node_classes: dict[str, Any], tmp_path: Any) -> Callable[..., Any]:
    """Save a branch and read it as Load I2V Adapter does."""
    import sys

    sockets = sys.modules[node_classes["I2VLoadAdapter"].__module__.rsplit(".", 1)[0] + ".sockets"]

    def read(branch: Any, unet: Any = None) -> Any:
        weights, path = core("weights"), tmp_path / "retention.safetensors"
        weights.save_adapter(path, "image_retention", branch, unet=unet)
        return sockets.GivenAdapter(weights.read_adapter(path), "retention.safetensors")

    return read


@pytest.fixture
def apply(node_classes: dict[str, Any]) -> Callable[..., Any]:
    def applied(model: Any, adapter: Any, strength: float = 1.0, **further: float) -> Any:
        execute = node_classes["I2VApplyImageRetention"].execute
        return execute(model=model, adapter=adapter, strength=strength, **further).result[0]

    return applied


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def test_at_its_start_it_changes_nothing_bit_by_bit(
    tiny: Any, branch: Any, core: Any, adapter: Any, apply: Any, prepare: Any, sample: Any
) -> None:
    retention = core("model.image_retention")
    with torch.inference_mode(False):
        fresh = retention.ImageRetention.beside(tiny.saved.checkpoint.unet, branch.config)
    given = prepare(tiny)
    assert torch.equal(sample(apply(tiny.model, adapter(fresh)), given), sample(tiny.model, given))


def test_the_host_s_samples_are_the_core_s(
    tiny: Any, branch: Any, core: Any, adapter: Any, apply: Any, prepare: Any, sample: Any, host_module: Any
) -> None:
    checkpoint, given, steps, cfg = tiny.saved.checkpoint, prepare(tiny), 3, 3.0
    result = sample(apply(tiny.model, adapter(branch)), given, steps, cfg)
    method = core("methods").ImageRetentionMethod(branch)
    denoiser = core("denoiser").Denoiser.of(checkpoint.unet, checkpoint.preset, method)
    sigmas = denoiser.schedule.sigmas(steps, "trailing").float()
    scale = checkpoint.autoencoder.config.scale_factor
    entry = given.positive[0][1]
    pixels = entry["i2v_image_pixels"].movedim(-1, 1) * 2 - 1
    latent = entry["concat_latent_image"][:, :, None] * scale
    text, null = (
        denoiser.prepare(
            core("conditions").Conditions(*checkpoint.text_encoder.encode([prompt]), image_latent=latent, image=pixels)
        )
        for prompt in ("pan left", "")
    )
    noise = host_module("comfy.sample").prepare_noise(given.latent["samples"], 0).movedim(0, 1)[None]
    scale_at = denoiser.schedule.scale_at(sigmas[0])
    level = 1 / core("diffusion.prediction").network_input(torch.ones(()), sigmas[0], scale_at)
    guidance = core("diffusion.guidance").ClassifierFreeGuidance(cfg)
    expected = core("diffusion.samplers").sample_euler(
        lambda y, sigma: denoiser.denoise(y, sigma, text, null, guidance), noise * level, sigmas
    )
    assert distance(result.movedim(0, 1)[None], expected / scale) < 1e-4
    assert distance(sample(tiny.model, given, steps, cfg), result) > 1e-3


def test_each_condition_has_its_own_image_and_its_hint_is_found_once(
    monkeypatch: pytest.MonkeyPatch, tiny: Any, branch: Any, adapter: Any, apply: Any, prepare: Any, sample: Any
) -> None:
    given, seen = prepare(tiny), []
    kind = type(branch).__name__
    model = apply(tiny.model, adapter(branch))
    own = model.get_additional_models_with_key("i2v_image_retention")[0].model
    found = own.hint
    monkeypatch.setattr(own, "hint", lambda image: seen.append(image) or found(image))
    sample(model, given, steps=4)
    assert len(seen) == 1, kind
    white = [[text, {**values, "i2v_image_pixels": torch.ones(1, 32, 32, 3)}] for text, values in given.negative]
    sample(model, replace(given, negative=white), steps=4)
    assert len(seen) == 3
    assert {float(image.min()) == float(image.max()) == 1.0 for image in seen[1:]} == {True, False}


def test_clips_of_a_batch_and_branches_in_turn_see_the_same(
    monkeypatch: pytest.MonkeyPatch, tiny: Any, branch: Any, adapter: Any, apply: Any, prepare: Any, sample: Any
) -> None:
    given, model = prepare(tiny), apply(tiny.model, adapter(branch))
    alone = sample(model, given)
    twice = replace(given, latent={"samples": given.latent["samples"].repeat(2, 1, 1, 1)})
    assert distance(sample(model, twice)[:FRAMES], alone) < 1e-5
    monkeypatch.setattr(tiny.model.model, "memory_usage_factor", 1e12)
    assert distance(sample(model, given), alone) < 1e-5


def test_a_missing_image_is_white_and_said(
    caplog: pytest.LogCaptureFixture, tiny: Any, branch: Any, adapter: Any, apply: Any, prepare: Any, sample: Any
) -> None:
    given, model = prepare(tiny), apply(tiny.model, adapter(branch))

    def with_image(pixels: Tensor | None) -> Any:
        entries = [
            [text, {k: v for k, v in values.items() if k != "i2v_image_pixels"}] for text, values in given.negative
        ]
        if pixels is not None:
            entries = [[text, {**values, "i2v_image_pixels": pixels}] for text, values in entries]
        return replace(given, negative=entries)

    with caplog.at_level(logging.WARNING):
        missing = sample(model, with_image(None))
    assert any("'negative' has no image; a white one, which means none, is used" in m for m in caplog.messages)
    assert torch.equal(missing, sample(model, with_image(torch.ones(1, 32, 32, 3))))


def test_strength_zero_is_the_model_itself_and_strength_scales_the_effect(
    tiny: Any, branch: Any, adapter: Any, apply: Any, prepare: Any, sample: Any
) -> None:
    given, read = prepare(tiny), adapter(branch)
    assert apply(tiny.model, read, 0.0) is tiny.model
    plain = sample(tiny.model, given)
    changes = [distance(sample(apply(tiny.model, read, strength), given), plain) for strength in (0.1, 0.5, 1.0)]
    assert changes == sorted(changes) and changes[0] > 0


def test_the_branch_runs_between_its_two_percents_only(
    monkeypatch: pytest.MonkeyPatch, tiny: Any, branch: Any, adapter: Any, apply: Any, prepare: Any, sample: Any
) -> None:
    given, read = prepare(tiny), adapter(branch)
    for start, end, expected in ((0.0, 1.0, 4), (0.0, 0.4, 2), (0.6, 1.0, 2), (0.4, 0.6, 1)):
        model = apply(tiny.model, read, start_percent=start, end_percent=end)
        own = model.get_additional_models_with_key("i2v_image_retention")[0].model
        calls: list[int] = []
        own.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        sample(model, given, steps=4)
        assert abs(len(calls) - expected) <= 1, (start, end)
        assert bool(calls)


def test_tuned_weights_are_patched_in_and_taken_back(
    tiny: Any, branch: Any, adapter: Any, apply: Any, prepare: Any, sample: Any
) -> None:
    given, name = prepare(tiny), "input_blocks.1.0.temopral_conv.conv4.3.bias"
    plain = sample(tiny.model, given)
    tuned = apply(tiny.model, adapter(branch, {name: torch.ones_like(tiny.saved.checkpoint.unet.state_dict()[name])}))
    assert distance(sample(tuned, given), sample(apply(tiny.model, adapter(branch)), given)) > 1e-4
    assert torch.equal(sample(tiny.model, given), plain)


def test_it_adds_to_a_controlnet(tiny: Any, branch: Any, adapter: Any, apply: Any, prepare: Any, sample: Any) -> None:
    given, model = prepare(tiny), apply(tiny.model, adapter(branch))

    def control(
        executor: Any, x: Tensor, t: Tensor, context: Tensor, y: Any, given: Any, options: Any, **more: Any
    ) -> Any:
        middle = torch.ones(len(x), 64, *(side // 2 for side in x.shape[-2:]))
        return executor(x, t, context, y, {"middle": [middle]}, options, **more)

    with_control = model.clone()
    with_control.add_wrapper_with_key("diffusion_model", "control", control)
    result = sample(with_control, given)
    assert distance(result, sample(model, given)) > 1e-4
    only = tiny.model.clone()
    only.add_wrapper_with_key("diffusion_model", "control", control)
    assert distance(result, sample(only, given)) > 1e-4


def test_another_base_another_method_and_a_second_branch_are_refused(
    tiny: Any, branch: Any, core: Any, adapter: Any, apply: Any, save: Any, load: Any, node_classes: Any
) -> None:
    read = adapter(branch)
    other = load(save("other_base", "modelscope", channel_mult=(1, 1)))
    with pytest.raises(
        ValueError,
        match=r"Cannot use .* here: the image retention branch was trained beside another base, whose channel_mult",
    ):
        apply(other.model, read)
    with pytest.raises(ValueError, match="has an image retention branch already"):
        apply(apply(tiny.model, read), read)
    with pytest.raises(ValueError, match="start_percent must not be after end_percent"):
        apply(tiny.model, read, start_percent=0.8, end_percent=0.2)
    wrong = replace(read, contents=replace(read.contents, kind="image_projection"))
    with pytest.raises(ValueError, match="is an adapter for image projection, and this node applies image retention"):
        apply(tiny.model, wrong)
