"""The four methods on one model: the order of their nodes does not matter, and the core agrees."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Core = Callable[[str], Any]
METHODS = ("look_back", "temporal_noise_fusion", "image_retention", "image_projection")
# Each comes first, last, and before and after each other one.
ORDERS = [each[i:] + each[:i] for each in (METHODS, METHODS[::-1]) for i in range(len(METHODS))]
FRAMES = 4
ALONG = "middle_block.2.proj_in.weight"


def stirred(module: nn.Module, seed: int, scale: float = 0.1) -> nn.Module:
    """The module with an effect: moved away from its start."""
    draw = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        weight.data += scale * torch.randn(weight.shape, generator=draw) / max(1, weight[0].numel()) ** 0.5
    return module.eval()


@pytest.fixture(scope="module")
def modules(tiny: Any, core: Core) -> dict[str, nn.Module]:
    """One small network of each method for the tiny model."""
    unet, trip = tiny.saved.checkpoint.unet, core("model.temporal_noise_fusion")
    look_back, retention = core("model.look_back"), core("model.image_retention")
    fusion = trip.TemporalNoiseFusionConfig(channels=12, features=32, heads=2)
    sites = look_back.find_sites("stage", 32, (1, 2), 1)
    injection, projection, encoder = (
        core("model.image_injection"),
        core("model.image_projection"),
        core("model.image_encoder"),
    )
    image = injection.ImageAdapterConfig(
        projection.ImageProjectionConfig(32, 1, 1, 32, 2, FRAMES, 32, 64),
        injection.ImageInjectionConfig(injection.find_image_sites(unet), 64),
        encoder.ImageEncoderConfig(32, 8, 32, 1, 1),
    )
    with torch.random.fork_rng(), torch.inference_mode(False):
        torch.manual_seed(2)
        looking = look_back.LookBack(look_back.LookBackConfig(sites=sites, adapter="causal"))
        look_back.initialize_look_back(looking)
        seeing = injection.ImageAdapter(image)
        injection.initialize_image_adapter(seeing)
        return {
            "look_back": stirred(looking, 1),
            "temporal_noise_fusion": stirred(trip.TemporalNoiseFusion(fusion), 2),
            "image_retention": stirred(
                retention.ImageRetention.beside(unet, retention.ImageRetentionConfig(stem_channels=(4, 8, 8))), 3
            ),
            "image_projection": stirred(seeing, 4, scale=0.3),
        }


def trained_along(kind: str) -> dict[str, Tensor]:
    """Weights of the base that two of the adapters bring along, each its own."""
    seeds = {"temporal_noise_fusion": 5, "image_retention": 6}
    if kind not in seeds:
        return {}
    draw = torch.Generator().manual_seed(seeds[kind])
    return {ALONG: 0.3 * torch.randn(64, 64, generator=draw)}


@pytest.fixture(scope="module")
def adapters(
    modules: dict[str, nn.Module], core: Core, node_classes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The same as Load I2V Adapter reads them."""
    import folder_paths

    folder = tmp_path_factory.mktemp("all_together")
    folder_paths.add_model_folder_path("model_patches", str(folder))
    for kind, module in modules.items():
        core("weights").save_adapter(folder / f"all_{kind}.safetensors", kind, module, unet=trained_along(kind))
    load = node_classes["I2VLoadAdapter"].execute
    return {kind: load(f"all_{kind}.safetensors").result[0] for kind in modules}


@pytest.fixture(scope="module")
def apply(node_classes: dict[str, Any], adapters: dict[str, Any]) -> Callable[..., Any]:
    """Apply methods to a model, one node after the other."""

    def applied(model: Any, given: Any, order: tuple[str, ...]) -> Any:
        for kind in order:
            if kind == "look_back":
                execute = node_classes["I2VApplyLookBack"].execute
                (model,) = execute(model, adapters[kind], given, "hybrid", 0).result
            elif kind == "temporal_noise_fusion":
                trip = node_classes["I2VApplyTRIP"].execute
                (model,) = trip(model, given, "learned", 0.8, 0.1, adapter=adapters[kind]).result
            elif kind == "image_projection":
                model, _ = node_classes["I2VApplyImageProjection"].execute(model, adapters[kind]).result
            else:
                (model,) = node_classes["I2VApplyImageRetention"].execute(model, adapters[kind], 1.0).result
        return model

    return applied


@pytest.fixture(scope="module")
def projection(tiny: Any, node_classes: dict[str, Any], adapters: dict[str, Any]) -> Any:
    """What Encode Image for I2V takes from Apply Image Projection."""
    with torch.inference_mode():
        return node_classes["I2VApplyImageProjection"].execute(tiny.model, adapters["image_projection"]).result[1]


@pytest.fixture(scope="module")
def picture(tiny: Any, node_classes: dict[str, Any]) -> Any:
    """The given image of `prepare`, for the nodes that want it beside the conditioning."""
    image = torch.rand(1, 40, 60, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return node_classes["I2VEncodeImage"].execute(tiny.vae, image, 32, 32, "crop").result[0]


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def test_the_order_of_the_nodes_does_not_matter_and_the_core_agrees(
    tiny: Any, core: Core, modules: dict[str, nn.Module], apply: Any, picture: Any, projection: Any, prepare: Any,
    sample: Any, host_module: Callable[[str], Any],
) -> None:  # fmt: skip
    checkpoint, given, steps, cfg = tiny.saved.checkpoint, prepare(tiny, frames=FRAMES, projection=projection), 2, 3.0
    results = [sample(apply(tiny.model, picture, order), given, steps, cfg) for order in ORDERS]
    for other in results[1:]:
        assert distance(other, results[0]) < 1e-5

    unet = deepcopy(checkpoint.unet)  # whose weights are replaced
    given_adapters = [
        core("weights.adapters").Adapter(kind, modules[kind], trained_along(kind), {}) for kind in METHODS
    ]
    denoiser = core("denoiser").Denoiser.adapted(unet, checkpoint.preset, given_adapters)
    scale = checkpoint.autoencoder.config.scale_factor
    latent, pixels = picture.latent[:, :, None] * scale, picture.pixels.movedim(-1, 1) * 2 - 1
    text, null = (
        core("conditions").Conditions(*checkpoint.text_encoder.encode([prompt]), image_latent=latent, image=pixels)
        for prompt in ("pan left", "")
    )
    null = denoiser.without_image(null, text)
    sigmas = denoiser.schedule.sigmas(steps, "trailing").float()
    noise = host_module("comfy.sample").prepare_noise(given.latent["samples"], 0).movedim(0, 1)[None]
    scale_at = denoiser.schedule.scale_at(sigmas[0])
    level = 1 / core("diffusion.prediction").network_input(torch.ones(()), sigmas[0], scale_at)
    guidance = core("diffusion.guidance").ClassifierFreeGuidance(cfg)
    start = denoiser.start(noise * level, sigmas, text)
    expected = core("diffusion.samplers").sample_euler(
        lambda y, sigma: denoiser.denoise(y, sigma, text, null, guidance), start, sigmas
    )
    expected = core("diffusion.initialization").pin_first(expected, latent)
    assert distance(results[0] * scale, expected[0].movedim(1, 0)) < 1e-3


@pytest.mark.parametrize("left_out", METHODS)
def test_each_method_has_a_share_in_the_result(
    tiny: Any, apply: Any, picture: Any, projection: Any, prepare: Any, sample: Any, left_out: str
) -> None:
    given = prepare(tiny, frames=FRAMES, projection=projection)
    whole = sample(apply(tiny.model, picture, METHODS), given)
    rest = sample(apply(tiny.model, picture, tuple(kind for kind in METHODS if kind != left_out)), given)
    assert distance(rest, whole) > 1e-3


def test_two_clips_at_once_are_each_what_they_are_alone(
    tiny: Any, apply: Any, picture: Any, projection: Any, prepare: Any, sample: Any
) -> None:
    model, given = apply(tiny.model, picture, METHODS), prepare(tiny, frames=FRAMES, projection=projection)

    def clips(count: int) -> Tensor:
        # The same noise for each clip.
        latent = {"samples": given.latent["samples"].repeat(count, 1, 1, 1), "batch_index": [*range(FRAMES)] * count}
        return sample(model, replace(given, latent=latent))

    alone, both = clips(1), clips(2)
    assert distance(both[:FRAMES], alone) < 1e-5
    assert distance(both[FRAMES:], alone) < 1e-5
