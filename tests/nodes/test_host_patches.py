"""Patches of other nodes: the host's own U-Net and ours, on the same weights, answer the same."""

import importlib
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.nodes.stable_diffusion import CHANNELS, LEVELS, conditioning, stable_diffusion

Models = tuple[Any, Any]
Patch = Callable[[Any], Any]


def distance(video: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, in units of the largest value."""
    return float((video - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def models(pack: ModuleType, core: Callable[[str], Any]) -> Models:
    """The host's Stable Diffusion 1.5 in small, with the host's network and with ours."""
    network = importlib.import_module(".nodes.host.network", pack.__name__)
    with torch.inference_mode():
        theirs, ours = stable_diffusion(), stable_diffusion()
        config = core("model.video_unet").VideoUNetConfig(
            model_channels=CHANNELS, channel_mult=LEVELS, num_res_blocks=1, attention_levels=(0, 1), num_heads=8,
            context_dim=64, temporal_convolution=False, temporal_attention=False, init_attention=False,
        )  # fmt: skip
        unet = network.HostVideoUNet(config, operations=importlib.import_module("comfy.ops").disable_weight_init)
        weights = theirs.model.diffusion_model.state_dict()
        # Stable Diffusion 1.5 has projections as convolutions of one position.
        unet.load_state_dict({key: weights[key].reshape(value.shape) for key, value in unet.state_dict().items()})
        ours.model.diffusion_model = unet.eval()
    return theirs, ours


def sampled(model: Any, frames: int = 3) -> torch.Tensor:
    """Latents of three steps of the host's KSampler, which also seeds what patches draw."""
    import nodes

    settings = {"seed": 5, "steps": 3, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal"}
    positive, negative = conditioning(1, 2)
    latent = {"samples": torch.zeros(frames, 4, 8, 8)}
    given = {"positive": positive, "negative": negative, "latent_image": latent}
    return nodes.KSampler().sample(model, **settings, **given)[0]["samples"]


def node(module: str, name: str, *arguments: Any) -> Patch:
    """A node of the host with its widgets' values."""

    def patched(model: Any) -> Any:
        made = getattr(importlib.import_module(f"comfy_extras.{module}"), name)
        result = made.execute(model, *arguments) if hasattr(made, "execute") else made().patch(model, *arguments)
        return getattr(result, "result", result)[0]

    return patched


def setting(name: str, *arguments: Any) -> Patch:
    """A method of the host's patcher, as nodes of others call it."""

    def patched(model: Any) -> Any:
        clone = model.clone()
        getattr(clone, name)(*arguments)
        return clone

    return patched


def overridden(model: Any) -> Any:
    """What Model Attention Backend does, here with a backend whose effect shows: no attention, but the mean."""
    clone = model.clone()

    def mean(function: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any, **options: Any) -> torch.Tensor:
        assert options["transformer_options"]["block"][0] in ("input", "middle", "output")
        return v.mean(1, keepdim=True).expand(len(v), q.shape[1], -1).contiguous() + 0.1 * q

    clone.model_options["transformer_options"]["optimized_attention_override"] = mean
    return clone


def told(h: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """Features, changed by what a patch is told of its place, its head count and the picture."""
    part, index = options["block"]
    shape, own = sum(options["original_shape"]), 0.0
    if "n_heads" in options:  # within a transformer
        shape += sum(options["activations_shape"])
        own = sum(float(options[key]) for key in ("block_index", "n_heads", "dim_head", "transformer_index"))
    branch = sum(options["cond_or_uncond"]) + float(options["sigmas"][0])
    return h * (1 + 1e-3 * (len(part) + index + own + branch + 1e-2 * shape))


def reorder(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """Sources of an attention, each its own: three frames keep their rows."""
    return told(q, options), k.flip(0), v * 1.5


PATCHES: dict[str, Patch] = {
    "FreeU": node("nodes_freelunch", "FreeU", 1.4, 1.6, 0.9, 0.2),
    "FreeU_V2": node("nodes_freelunch", "FreeU_V2", 1.4, 1.6, 0.9, 0.2),
    "HyperTile": node("nodes_hypertile", "HyperTile", 32, 3, 1, True),
    "TomePatchModel": node("nodes_tomesd", "TomePatchModel", 0.5),
    "PatchModelAddDownscale": node(
        "nodes_model_downscale", "PatchModelAddDownscale", 1, 2.0, 0.0, 1.0, True, "bicubic", "bilinear"
    ),
    "PatchModelAddDownscale, skip too": node(
        "nodes_model_downscale", "PatchModelAddDownscale", 1, 2.0, 0.0, 1.0, False, "area", "bislerp"
    ),
    "PerturbedAttentionGuidance": node("nodes_pag", "PerturbedAttentionGuidance", 3.0),
    "SelfAttentionGuidance": node("nodes_sag", "SelfAttentionGuidance", 0.8, 2.0),
    "attention override": overridden,
    "attn1_patch": setting("set_model_attn1_patch", reorder),
    "attn2_patch": setting("set_model_attn2_patch", reorder),
    "attn2 replaced in one block": setting(
        "set_model_attn2_replace", lambda q, k, v, options: told(q, options) + v.mean(1, keepdim=True), "output", 1
    ),
    "attn1 replaced in one transformer": setting(
        "set_model_attn1_replace", lambda q, k, v, options: told(v, options), "input", 3, 0
    ),
    "attn1_output_patch": setting("set_model_attn1_output_patch", told),
    "attn2_output_patch": setting("set_model_attn2_output_patch", told),
    "middle_patch": setting("set_model_patch", told, "middle_patch"),
    "input_block_patch": setting("set_model_input_block_patch", told),
    "input_block_patch_after_skip": setting("set_model_input_block_patch_after_skip", told),
    "output_block_patch": setting(
        "set_model_output_block_patch", lambda h, skip, options: (told(h, options), told(skip.flip(0), options))
    ),
    "emb_patch": setting(
        "set_model_patch", lambda emb, channels, options: emb * torch.linspace(0.5, 1, len(emb))[:, None], "emb_patch"
    ),
}


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_does_in_our_network_what_it_does_in_the_host_s(models: Models, name: str) -> None:
    theirs, ours = models
    plain, expected = sampled(theirs), sampled(PATCHES[name](theirs))
    assert distance(expected, plain) > 1e-3
    assert distance(sampled(PATCHES[name](ours)), expected) < 1e-4
    assert distance(sampled(ours), plain) < 1e-4, "the given model stays as it is"


def test_patches_work_together(models: Models) -> None:
    names = ("FreeU_V2", "TomePatchModel", "PatchModelAddDownscale", "PerturbedAttentionGuidance", "attn2_patch")
    theirs, ours = models
    for name in names:
        theirs, ours = PATCHES[name](theirs), PATCHES[name](ours)
    assert distance(sampled(ours), sampled(theirs)) < 1e-4


@pytest.mark.parametrize(("frames", "renorm"), [(1, 1.0), (3, 0.0)])
def test_renorm_cfg_finds_the_channels(models: Models, frames: int, renorm: float) -> None:
    # With a norm to keep the host's node takes one picture only, on any model.
    patch = node("nodes_lumina2", "RenormCFG", 100.0, renorm)
    theirs, ours = (sampled(patch(model), frames) for model in models)
    assert distance(ours, theirs) < 1e-4


def test_what_no_layer_asks_for_is_named_once(models: Models, caplog: pytest.LogCaptureFixture) -> None:
    patched = setting("set_model_patch", lambda *_: None, "double_block")(models[1])
    with caplog.at_level(logging.WARNING):
        assert torch.equal(sampled(patched), sampled(models[1]))
    assert sum("'double_block'" in record.message for record in caplog.records) == 1


def test_a_step_cache_keeps_what_patches_left_and_tells_replaced_attentions_apart(
    models: Models, core: Callable[[str], Any]
) -> None:
    unet, caching = models[1].model.diffusion_model, core("model.step_cache")
    cache = caching.StepCache(caching.StepCacheConfig(bound=1.0, outer=1))
    x, text, times = torch.randn(3, 4, 8, 8), torch.randn(1, 7, 64).expand(3, -1, -1), torch.full((3,), 300.0)

    def scaled(h: torch.Tensor, options: Any) -> torch.Tensor:
        return h.mul_(1.5)

    def run(**replaced: Any) -> torch.Tensor:
        patches = {"input_block_patch_after_skip": [scaled], "output_block_patch": [lambda h, s, _: (h.mul_(2), s)]}
        options = {"patches": patches, "patches_replace": replaced, "i2v_step_cache": cache, "cond_or_uncond": [0]}
        return unet(x, times, text, transformer_options=options)

    full = run()
    assert torch.equal(run(), full)
    assert (cache.computed, cache.reused) == (1, 1)
    perturbed = run(attn1={("middle", 0): lambda q, k, v, _: v})
    assert distance(perturbed, full) > 1e-3
    assert cache.computed == 2


def test_patches_act_on_a_video_model_with_image_tokens(
    pack: ModuleType, save: Callable[..., Any], load: Callable[[Any], Any], core: Callable[[str], Any]
) -> None:
    """Patches that give back what they get change nothing, beside image streams and temporal layers."""
    unet = load(
        save("patched", "dynamicrafter_512", image_gate="fixed", fps_embedding=True)
    ).model.model.diffusion_model
    frames, width = 3, unet.config.context_dim
    draw = torch.Generator().manual_seed(0)
    x, text, tokens = (
        torch.randn(2 * frames, *shape, generator=draw)
        for shape in ((unet.config.in_channels, 8, 8), (7, width), (5, width))
    )
    text = text[:2].repeat_interleave(frames, 0)
    pooled = torch.randn(2, unet.config.pooled_text_dim or 1, generator=draw).repeat_interleave(frames, 0)
    seen: list[int] = []

    def run(**patches: Any) -> torch.Tensor:
        options = {"cond_or_uncond": [1, 0], **patches}
        y = pooled if unet.config.pooled_text_dim else None
        times = torch.full((2 * frames,), 300.0)
        return unet(x, times, text, y, transformer_options=options, frame_tokens=tokens, fps=8.0)

    def counted(function: Any, q: torch.Tensor, *further: Any, **named: Any) -> torch.Tensor:
        seen.append(q.shape[-1] // further[2])
        return function(q, *further, **named)

    keep = {
        "attn1_patch": [lambda q, k, v, _: (q, k, v)],
        "attn2_patch": [lambda q, k, v, _: (q, k, v)],
        "emb_patch": [lambda emb, *_: emb],
        "output_block_patch": [lambda h, skip, _: (h, skip)],
        "middle_block_after_patch": [lambda told: {"h": told["h"]} if len(told["emb"]) == len(told["x"]) else {}],
    }
    plain = run()
    assert distance(run(patches=keep), plain) < 1e-5
    assert distance(run(optimized_attention_override=counted), plain) < 1e-5
    transformers = [each for each in unet.modules() if hasattr(each, "transformer_blocks")]
    dual = sum(type(each).__name__ == "SpatialTransformer" for each in transformers)
    assert len(seen) == 2 * len(transformers) + dual, "temporal attention and image streams, too"
