"""Apply TRIP in the host against the core's denoiser, and what the host does with the patched model."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.nodes.stock import stock_model
from tests.nodes.test_model import conditions, distance, host_conditioning, run_once

Host = Callable[[str], Any]
Core = Callable[[str], Any]
KIND = "temporal_noise_fusion"
BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "differences": ("demo", {}),
    "text_to_video": ("modelscope", {"in_channels": 12, "pooled_text_dim": None}),
    "image_tokens": ("dynamicrafter_512", {"image_gate": "fixed", "fps_embedding": True}),
}


@pytest.fixture(scope="module")
def bases(save: Callable[..., Any], load: Callable[[Any], Any]) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            preset, changes = BASES[name]
            made[name] = load(save(f"trip_{name}", preset, **changes))
        return made[name]

    return get


@pytest.fixture(scope="module")
def adapter(
    core: Core, node_classes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Any, Any]]:
    """A seeded adapter as Load I2V Adapter gives it, and as the core has it; arguments change its configuration."""
    import folder_paths

    folder = tmp_path_factory.mktemp("adapters")
    folder_paths.add_model_folder_path("model_patches", str(folder))

    def make(unet: dict[str, torch.Tensor] | None = None, **changes: Any) -> tuple[Any, Any]:
        config = core("model.temporal_noise_fusion").TemporalNoiseFusionConfig(
            **({"channels": 12, "features": 32, "heads": 2} | changes)
        )
        with torch.random.fork_rng(), torch.inference_mode(False):
            torch.manual_seed(3)
            module = core("model.temporal_noise_fusion").TemporalNoiseFusion(config)
        path = folder / f"{'_'.join(map(str, changes.values()))}_{unet is not None}.safetensors"
        core("weights").save_adapter(path, KIND, module, unet=unet)
        given = node_classes["I2VLoadAdapter"].execute(path.name).result[0]
        return given, core("weights").load_adapter(path)

    return make


@pytest.fixture(scope="module")
def apply(node_classes: dict[str, Any], core: Core) -> Callable[..., Any]:
    def applied(model: Any, latent: torch.Tensor, fusion: str = "learned", **settings: Any) -> Any:
        given = core("conditions").GivenImage(latent)
        chosen = {"first_lambda": 0.8, "last_lambda": 0.1} | settings
        return node_classes["I2VApplyTRIP"].execute(model, given, fusion, **chosen).result[0]

    return applied


@pytest.mark.parametrize("position", ["begin", "end", "channel"])
@pytest.mark.parametrize("fusion", ["learned", "linear", "none"])
@pytest.mark.parametrize("base", BASES)
def test_the_host_s_model_equals_the_core_s_denoiser(
    core: Core, host_module: Host, bases: Callable[[str], Any], adapter: Callable[..., Any],
    apply: Callable[..., Any], base: str, fusion: str, position: str,
) -> None:  # fmt: skip
    loaded, frames = bases(base), 3
    checkpoint = loaded.saved.checkpoint
    # A base without channels for the image gets a convolution of the adapter's own.
    own = {"image_features": 32} if (base, position) == ("text_to_video", "channel") else {}
    given, ours = adapter(position=position, **own)
    module = replace_config(core, ours.module, fusion)
    method = core("methods").TripMethod.of(module)
    denoiser = core("denoiser").Denoiser.of(checkpoint.unet, checkpoint.preset, method)
    single = core("diffusion.guidance").ClassifierFreeGuidance(1.0)

    config, scale = checkpoint.unet.config, loaded.model.model.latent_format.scale_factor
    image = torch.randn(1, 12, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    branches = [replace(conditions(core, config, frames, seed, 8.0), image_latent=image) for seed in (1, 2)]
    model = apply(loaded.model, image[:, :, 0] / scale, fusion, adapter=given)
    for sigma in (0.05, 8.0):
        clips = torch.randn(2, 12, frames, 8, 8, generator=torch.Generator().manual_seed(5)) * sigma
        rows = clips.movedim(1, 2).flatten(0, 1)
        texts = [host_conditioning(c, scale, frames) for c in branches]
        for estimate, branch in zip(run_once(host_module, model, rows, sigma, texts), branches, strict=True):
            expected = torch.cat(
                [denoiser.denoise(clip[None], torch.tensor(sigma), branch, None, single) for clip in clips]
            )
            result = estimate.unflatten(0, (2, frames)).movedim(2, 1)
            torch.testing.assert_close(result, expected, atol=3e-5 * max(1, sigma), rtol=1e-4)


def replace_config(core: Core, module: Any, fusion: str) -> Any:
    """The adapter's own module, or one that fuses as the node was told."""
    if fusion == "learned":
        return module
    config = replace(module.config, fusion=fusion, first_lambda=0.8, last_lambda=0.1)
    built = core("model.temporal_noise_fusion").TemporalNoiseFusion(config)
    built.load_state_dict({name: module.state_dict()[name] for name in built.state_dict()})
    return built


def test_linear_fusion_through_the_host_blends_clean_estimates(
    core: Core, host_module: Host, bases: Callable[[str], Any], apply: Callable[..., Any]
) -> None:
    loaded = bases("text_to_video")
    latent, text = torch.randn(1, 12, 8, 8), torch.randn(1, 7, 64)
    rows = torch.randn(4, 12, 8, 8)

    def estimate(fusion: str, **settings: float) -> torch.Tensor:
        model = apply(loaded.model, latent, fusion, **settings)
        return run_once(host_module, model, rows, 1.0, [[[text, {}]]])[0]

    image, alone = loaded.model.model.process_latent_in(latent), estimate("none")
    shares = torch.linspace(0.8, 0.1, 4)[:, None, None, None]
    torch.testing.assert_close(estimate("linear"), shares * image + (1 - shares) * alone, rtol=0, atol=1e-5)
    held = estimate("linear", first_lambda=1.0, last_lambda=1.0)
    torch.testing.assert_close(held, image.expand_as(held), rtol=0, atol=1e-5)
    torch.testing.assert_close(estimate("linear", first_lambda=0.0, last_lambda=0.0), alone, rtol=0, atol=1e-5)
    late = estimate("linear", start_percent=0.9)
    torch.testing.assert_close(late, alone, rtol=0, atol=0)


def test_a_second_model_is_untouched_and_without_the_node_all_is_as_before(
    bases: Callable[[str], Any], adapter: Callable[..., Any], apply: Callable[..., Any],
    prepare: Callable[..., Any], sample: Callable[..., torch.Tensor],
) -> None:  # fmt: skip
    loaded = bases("differences")
    unet = loaded.saved.checkpoint.unet.state_dict()
    tuned = {name: tensor + 0.05 for name, tensor in unet.items() if ".temopral_conv.conv4" in name}
    assert tuned
    trained, _ = adapter(unet=tuned)
    given = prepare(loaded)
    latent = given.positive[0][1]["concat_latent_image"]
    before = sample(loaded.model, given)
    one = apply(loaded.model, latent, adapter=trained)
    two = apply(loaded.model, latent, "linear")
    first = sample(one, given)
    second = sample(two, given)
    assert distance(first, before) > 1e-3
    assert distance(second, before) > 1e-3
    assert distance(first, second) > 1e-3
    assert torch.equal(sample(one, given), first)
    assert torch.equal(sample(two, given), second)
    assert torch.equal(sample(loaded.model, given), before)


def test_the_host_loads_and_casts_the_adapter_s_weights(
    bases: Callable[[str], Any], adapter: Callable[..., Any], apply: Callable[..., Any]
) -> None:
    trained, _ = adapter()
    model = apply(bases("differences").model, torch.zeros(1, 12, 8, 8), adapter=trained)
    (own,) = model.get_nested_additional_models()
    assert all(hasattr(layer, "comfy_cast_weights") for layer in own.model.modules() if hasattr(layer, "weight"))
    (copied,) = model.clone().get_nested_additional_models()
    assert copied.model is own.model


def test_what_does_not_fit_is_refused_in_one_sentence(
    core: Core, host_module: Host, bases: Callable[[str], Any], adapter: Callable[..., Any],
    apply: Callable[..., Any], prepare: Callable[..., Any], sample: Callable[..., Any],
) -> None:  # fmt: skip
    loaded = bases("differences")
    model, latent, trained = loaded.model, torch.zeros(1, 12, 8, 8), adapter()[0]

    def refused(match: str, *arguments: Any, **settings: Any) -> None:
        with pytest.raises(ValueError, match=match):
            apply(*arguments, **settings)

    refused("learned fusion needs a trained adapter: connect Load I2V Adapter", model, latent)
    refused("image latent has 4 channels, this model's latents have 12", model, torch.zeros(1, 4, 8, 8), "linear")
    refused("no learned one: choose that", model, latent, adapter=adapter(fusion="linear")[0])
    refused("trained with the image at position begin", model, latent, adapter=trained, position="end")
    refused("trained for latents of 4 channels, this model's have 12", model, latent, adapter=adapter(channels=4)[0])
    refused("works on video models of Load I2V Checkpoint", stock_model(host_module, "eps"), latent, "linear")
    refused("TRIP already", apply(model, latent, "linear"), latent, "linear")
    refused("choose position begin or end", bases("text_to_video").model, latent, "none", position="channel")
    other = adapter(unet={"input_blocks.0.0.bias": torch.zeros(5)})[0]
    refused("trained with another base: its 'input_blocks", model, latent, adapter=other)
    with pytest.raises(ValueError, match=r"TRIP's image latent is 6 x 8 \(batch 1\), the one to sample 8 x 8"):
        sample(apply(model, torch.zeros(1, 12, 8, 6), "linear"), prepare(loaded))
