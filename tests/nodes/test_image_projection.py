"""An image projection on a model of the host that was made without one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Core = Callable[[str], Any]
FRAMES = 4


def build(core: Core, unet: Any, seed: int | None = 1, encoder: bool = True, **injection: Any) -> nn.Module:
    """An adapter for a tiny U-Net; `seed` None leaves it at its start, where it adds nothing."""
    module = core("model.image_injection")
    config = module.ImageAdapterConfig(
        core("model.image_projection").ImageProjectionConfig(32, 1, 1, 32, 2, FRAMES, 32, 64),
        module.ImageInjectionConfig(module.find_image_sites(unet), 64, **injection),
        core("model.image_encoder").ImageEncoderConfig(32, 8, 32, 1, 1) if encoder else None,
    )
    with torch.random.fork_rng(), torch.inference_mode(False):
        torch.manual_seed(0)
        made = module.ImageAdapter(config)
        module.initialize_image_adapter(made)
        if seed is not None:
            torch.manual_seed(seed)
            for weight in made.parameters():
                weight.data += 0.3 * torch.randn_like(weight) / max(1, weight[0].numel()) ** 0.5
    return made.eval()


@pytest.fixture
def apply(core: Core, node_classes: dict[str, Any], tmp_path: Any) -> Callable[..., tuple[Any, Any]]:
    """Save an adapter and apply it as the nodes do: the model and its image projection."""
    import folder_paths

    folder_paths.add_model_folder_path("model_patches", str(tmp_path))

    def applied(model: Any, adapter: nn.Module, unet: Any = None) -> tuple[Any, Any]:
        name = f"projection_{tmp_path.name}.safetensors"
        core("weights").save_adapter(tmp_path / name, "image_projection", adapter, unet=unet)
        loaded = node_classes["I2VLoadAdapter"].execute(name).result[0]
        return node_classes["I2VApplyImageProjection"].execute(model, loaded).result

    return applied


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def core_sample(
    core: Core, loaded: Any, adapter: nn.Module, given: Any, host_module: Any, steps: int, cfg: float
) -> Tensor:
    """What the core makes of the same inputs, in the host's scale; `t c h w`."""
    checkpoint, entry = loaded.saved.checkpoint, given.positive[0][1]
    method = core("methods").ImageProjectionMethod.of(adapter)
    denoiser = core("denoiser").Denoiser.of(checkpoint.unet, checkpoint.preset, method)
    scale = checkpoint.autoencoder.config.scale_factor
    text, null = (
        core("conditions").Conditions(
            *checkpoint.text_encoder.encode([prompt]),
            image_latent=entry["concat_latent_image"][:, :, None] * scale,
            image=entry["i2v_image_pixels"].movedim(-1, 1) * 2 - 1,
        )
        for prompt in ("pan left", "")
    )
    sigmas = denoiser.schedule.sigmas(steps, "trailing").float()
    noise = host_module("comfy.sample").prepare_noise(given.latent["samples"], 0).movedim(0, 1)[None]
    level = 1 / core("diffusion.prediction").network_input(
        torch.ones(()), sigmas[0], denoiser.schedule.scale_at(sigmas[0])
    )
    config = core("sampling").SamplingConfig(steps, "trailing", core("diffusion.guidance").ClassifierFreeGuidance(cfg))
    denoise = core("sampling").guided(denoiser, text, null, None, config, sigmas)
    latents = core("diffusion.samplers").sample_euler(denoise, noise * level, sigmas)
    return latents[0].movedim(1, 0) / scale


def test_at_its_start_it_changes_nothing_bit_by_bit(
    tiny: Any, core: Core, apply: Any, prepare: Any, sample: Any
) -> None:
    model, projection = apply(tiny.model, build(core, tiny.saved.checkpoint.unet, seed=None))
    given = prepare(tiny, projection=projection)
    assert torch.equal(sample(model, given), sample(tiny.model, given))


def test_the_host_s_samples_are_the_core_s(
    tiny: Any, core: Core, apply: Any, prepare: Any, sample: Any, host_module: Any
) -> None:
    adapter = build(core, tiny.saved.checkpoint.unet)
    model, projection = apply(tiny.model, adapter)
    given = prepare(tiny, projection=projection)
    result = sample(model, given, steps=3, cfg=3.0)
    assert distance(result, core_sample(core, tiny, adapter, given, host_module, 3, 3.0)) < 1e-4
    assert distance(result, sample(tiny.model, given, steps=3, cfg=3.0)) > 1e-3


def test_a_text_to_video_model_gets_the_image_by_tokens_and_latent(
    save: Any, load: Any, core: Core, apply: Any, prepare: Any, sample: Any, host_module: Any
) -> None:
    detail = core("model.image_injection").VisualDetailConfig(12, 32)
    loaded = load(save("text_to_video_detail", "modelscope", in_channels=12))
    adapter = build(core, loaded.saved.checkpoint.unet, visual_detail=detail)
    model, projection = apply(loaded.model, adapter)
    given = prepare(loaded, projection=projection)
    result = sample(model, given, steps=3, cfg=3.0)
    assert distance(result, core_sample(core, loaded, adapter, given, host_module, 3, 3.0)) < 1e-4
    other = prepare(loaded, projection=projection, seed=1)
    assert distance(sample(model, replace(other, latent=given.latent), steps=3, cfg=3.0), result) > 1e-3


def test_two_clips_at_once_are_each_what_they_are_alone(
    tiny: Any, core: Core, apply: Any, prepare: Any, sample: Any
) -> None:
    model, projection = apply(tiny.model, build(core, tiny.saved.checkpoint.unet))
    given = prepare(tiny, projection=projection)

    def clips(count: int) -> Tensor:
        latent = {"samples": given.latent["samples"].repeat(count, 1, 1, 1), "batch_index": [*range(FRAMES)] * count}
        return sample(model, replace(given, latent=latent))

    assert distance(clips(2)[FRAMES:], clips(1)) < 1e-5


def test_the_model_that_it_was_applied_to_stays_as_it_was(
    tiny: Any, core: Core, apply: Any, prepare: Any, sample: Any
) -> None:
    given = prepare(tiny)
    before = sample(tiny.model, given)
    unet = tiny.saved.checkpoint.unet.state_dict()
    name = "middle_block.1.proj_out.weight"
    model, projection = apply(tiny.model, build(core, tiny.saved.checkpoint.unet), unet={name: unet[name] + 0.1})
    sample(model, prepare(tiny, projection=projection))
    assert torch.equal(sample(tiny.model, given), before)


def test_its_weights_are_the_host_s_to_load_and_to_take_away(
    tiny: Any, core: Core, apply: Any, prepare: Any, sample: Any, host_module: Any
) -> None:
    management = host_module("comfy.model_management")
    model, projection = apply(tiny.model, build(core, tiny.saved.checkpoint.unet))
    given = prepare(tiny, projection=projection)
    before = sample(model, given)
    (own,) = model.get_additional_models_with_key("i2v_image_projection")
    assert any(own.is_clone(loaded.model) for loaded in management.current_loaded_models)
    management.unload_all_models()
    assert torch.equal(sample(model.clone(), given), before)


def test_without_tokens_the_sampler_says_what_to_connect(
    tiny: Any, core: Core, apply: Any, prepare: Any, sample: Any
) -> None:
    model, _ = apply(tiny.model, build(core, tiny.saved.checkpoint.unet))
    with pytest.raises(ValueError, match="connect image_projection of Apply Image Projection to Encode Image"):
        sample(model, prepare(tiny))


def test_without_an_encoder_of_its_own_it_needs_clip_vision(tiny: Any, core: Core, apply: Any, prepare: Any) -> None:
    _, projection = apply(tiny.model, build(core, tiny.saved.checkpoint.unet, encoder=False))
    with pytest.raises(ValueError, match="clip_vision is missing"):
        prepare(tiny, projection=projection)


def test_what_does_not_fit_is_refused_in_a_sentence(
    tiny: Any, save: Any, load: Any, core: Core, apply: Any, look_back_adapter: Any, node_classes: dict[str, Any]
) -> None:
    adapter = build(core, tiny.saved.checkpoint.unet)
    model, _ = apply(tiny.model, adapter)
    with pytest.raises(ValueError, match="has an image projection already"):
        apply(model, adapter)
    with pytest.raises(ValueError, match=r"Cannot use '.*' here: the adapter has a stream for .* of width 64"):
        apply(load(save("narrow", "modelscope", channel_mult=(1, 1))).model, adapter)
    with pytest.raises(ValueError, match="image attention of its own"):
        apply(load(save("native", "modelscope", image_gate="fixed")).model, adapter)
    with pytest.raises(ValueError, match="is an adapter for look back"):
        node_classes["I2VApplyImageProjection"].execute(tiny.model, look_back_adapter("not_this_kind"))
