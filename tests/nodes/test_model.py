"""The host's model against the core's, and what the host does with it."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

Host = Callable[[str], Any]

# Name, preset, changes of the configuration: the demo's kind, and those of the public checkpoints in small.
FAMILY: list[tuple[str, str, dict[str, Any]]] = [
    ("demo", "demo", {}),
    (
        "dynamicrafter_512",
        "dynamicrafter_512",
        {"image_gate": "fixed", "fps_embedding": True, "init_attention": True, "pooled_text_dim": None},
    ),
    ("dynamicrafter_256", "dynamicrafter_256", {"image_gate": "learned", "fps_embedding": True}),
    ("shared_tokens", "videocrafter1_i2v_512", {"image_gate": "fixed", "image_token_layout": "shared"}),
    ("text_to_video", "videocrafter2", {"in_channels": 12, "fps_embedding": True}),
    ("image_model", "stable_diffusion_1_5", {"temporal_convolution": False, "temporal_attention": False}),
]


def conditions(core: Callable[[str], Any], config: Any, frames: int, seed: int, fps: float | None) -> Any:
    """Made-up `Conditions` of one clip for this configuration."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    shared = config.image_token_layout == "shared"
    return core("conditions").Conditions(
        text=normal(1, 7, config.context_dim),
        pooled_text=normal(1, config.pooled_text_dim) if config.pooled_text_dim else None,
        image_latent=normal(1, 12, 1, 8, 8) if config.in_channels == 24 else None,
        image_tokens=None if config.image_gate == "none" else normal(1, 5, 64) if shared else normal(1, frames, 5, 64),
        fps=torch.tensor([fps]) if config.fps_embedding and fps else None,
    )


def host_conditioning(given: Any, scale: float, frames: int) -> list[Any]:
    """The same in the host's form, whose latents are without the model's scale."""
    latent = None if given.image_latent is None else given.image_latent[:, :, 0] / scale
    values = {
        "pooled_output": given.pooled_text,
        "concat_latent_image": latent,
        "i2v_image_tokens": given.image_tokens,
        "i2v_frames": frames,
        "i2v_fps": None if given.fps is None else given.fps.item(),
    }
    return [[given.text, {key: value for key, value in values.items() if value is not None}]]


def run_once(host: Host, model: Any, y: torch.Tensor, sigma: float, conds: list[list[Any]]) -> list[torch.Tensor]:
    """Clean estimates `t c h w` of the host for several conditionings at one noise level."""
    samplers, helpers = host("comfy.samplers"), host("comfy.sampler_helpers")
    names = [f"cond{i}" for i in range(len(conds))]
    converted = {name: helpers.convert_cond(cond) for name, cond in zip(names, conds, strict=True)}
    options = host("comfy.model_patcher").create_model_options_clone(model.model_options)
    helpers.prepare_model_patcher(model, converted, options)
    inner, _, loaded = helpers.prepare_sampling(model, y.shape, converted, options)
    model.pre_run()
    ready = samplers.process_conds(inner, y, converted, torch.device("cpu"))
    levels = torch.full((len(y),), sigma)
    result = samplers.calc_cond_batch(inner, [ready[name] for name in names], y, levels, options)
    helpers.cleanup_models(converted, loaded)
    return list(result)


def distance(video: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, in units of the largest value: untrained networks leave the noise in."""
    return float((video - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("name", "preset", "changes"), FAMILY, ids=[member[0] for member in FAMILY])
def test_the_model_equals_the_core_s_denoiser(
    core: Callable[[str], Any],
    host_module: Host,
    save: Callable[..., Any],
    load: Callable[[Any], Any],
    name: str,
    preset: str,
    changes: dict[str, Any],
) -> None:
    loaded = load(save(name, preset, **changes))
    checkpoint, frames = loaded.saved.checkpoint, 3
    denoiser = core("denoiser").Denoiser.of(checkpoint.unet, checkpoint.preset)
    single = core("diffusion.guidance").ClassifierFreeGuidance(1.0)
    given = [conditions(core, checkpoint.unet.config, frames, seed, fps) for seed, fps in ((1, 8.0), (2, 24.0))]
    scale = loaded.model.model.latent_format.scale_factor
    for sigma in (0.05, 1.0, 12.0):
        clips = torch.randn(2, 12, frames, 8, 8, generator=torch.Generator().manual_seed(3)) * sigma
        rows = clips.movedim(1, 2).flatten(0, 1)
        estimates = run_once(
            host_module, loaded.model, rows, sigma, [host_conditioning(c, scale, frames) for c in given]
        )
        for estimate, condition in zip(estimates, given, strict=True):
            for i, clip in enumerate(clips):
                expected = denoiser.denoise(clip[None], torch.tensor(sigma), condition, None, single)
                part = estimate[i * frames : (i + 1) * frames].movedim(0, 1)[None]
                # The estimate of an eps model is its output times sigma.
                torch.testing.assert_close(part, expected, atol=1e-5 * max(1, sigma), rtol=1e-5)


def test_image_tokens_for_another_number_of_frames_are_spread(
    core: Callable[[str], Any], host_module: Host, save: Callable[..., Any], load: Callable[[Any], Any]
) -> None:
    loaded = load(save("spread", "dynamicrafter_512", image_gate="fixed"))
    model, config = loaded.model, loaded.saved.checkpoint.unet.config
    given = conditions(core, config, 6, 1, None)
    resampled = core("model.image_projection").resample_image_tokens(given.image_tokens, 3)
    y, scale = torch.randn(3, 12, 8, 8), model.model.latent_format.scale_factor
    both = [given, replace(given, image_tokens=resampled)]
    first, second = run_once(host_module, model, y, 1.0, [host_conditioning(c, scale, 3) for c in both])
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("preset", "tolerance"),
    # The host's Euler adds and subtracts the first sigma: at 4518 (zero terminal SNR) float32 keeps three decimals.
    [("modelscope", 1e-5), ("videocrafter2", 1e-5), ("demo", 1e-3)],
)
def test_ksampler_equals_the_core_s_euler(
    core: Callable[[str], Any],
    host_module: Host,
    save: Callable[..., Any],
    load: Callable[[Any], Any],
    prepare: Callable[..., Any],
    sample: Callable[..., torch.Tensor],
    preset: str,
    tolerance: float,
) -> None:
    steps, cfg, seed = 4, 3.0, 11
    loaded = load(save(f"euler_{preset}", preset))
    checkpoint, given = loaded.saved.checkpoint, prepare(loaded)
    result = sample(loaded.model, given, steps, cfg, seed)

    denoiser = core("denoiser").Denoiser.of(checkpoint.unet, checkpoint.preset)
    schedule = denoiser.schedule
    sigmas = schedule.sigmas(steps, "trailing").float()
    guidance = core("diffusion.guidance").ClassifierFreeGuidance(cfg)
    scale = checkpoint.autoencoder.config.scale_factor
    latent = given.positive[0][1]["concat_latent_image"][:, :, None] * scale
    text, null = (
        core("conditions").Conditions(*checkpoint.text_encoder.encode([prompt]), image_latent=latent)
        for prompt in ("pan left", "")
    )
    noise = host_module("comfy.sample").prepare_noise(given.latent["samples"], seed).movedim(0, 1)[None]
    # Sampling starts where the network sees the noise itself.
    level = 1 / core("diffusion.prediction").network_input(torch.ones(()), sigmas[0], schedule.scale_at(sigmas[0]))
    expected = core("diffusion.samplers").sample_euler(
        lambda y, sigma: denoiser.denoise(y, sigma, text, null, guidance), noise * level, sigmas
    )
    assert distance(result.movedim(0, 1)[None], expected / scale) < tolerance


def test_sampler_custom_advanced_gives_the_same_video(
    host_module: Host, tiny: Any, prepare: Callable[..., Any], sample: Callable[..., torch.Tensor]
) -> None:
    custom, given = host_module("comfy_extras.nodes_custom_sampler"), prepare(tiny)
    guider = custom.CFGGuider.execute(tiny.model, given.positive, given.negative, 2.0)[0]
    sigmas = custom.BasicScheduler.execute(tiny.model, "simple", 2, 1.0)[0]
    sampler = custom.KSamplerSelect.execute("euler")[0]
    noise = custom.RandomNoise.execute(0)[0]
    out = custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, given.latent)[0]
    assert torch.equal(out["samples"], sample(tiny.model, given))


@pytest.mark.parametrize("preset", ["demo", "dynamicrafter_512", "videocrafter2", "modelscope"])
def test_the_host_samples_on_the_checkpoint_s_own_noise_levels(
    core: Callable[[str], Any],
    host_module: Host,
    save: Callable[..., Any],
    load: Callable[[Any], Any],
    preset: str,
) -> None:
    sampling = load(save("levels", preset)).model.get_model_object("model_sampling")
    schedule = core("diffusion.schedule").Schedule(core("presets").PRESETS[preset].schedule)
    sigmas = host_module("comfy.samplers").calculate_sigmas(sampling, "simple", 20)
    torch.testing.assert_close(sigmas, schedule.sigmas(20, "trailing").float())
    assert not list(sampling.buffers())

    noise = torch.randn(2, 12, 8, 8)
    start = sampling.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), max_denoise=True)
    torch.testing.assert_close(sampling.calculate_input(sigmas[0].expand(2), start), noise)
    for scheduler in ("normal", "karras", "sgm_uniform", "ddim_uniform", "beta", "exponential"):
        levels = host_module("comfy.samplers").calculate_sigmas(sampling, scheduler, 6)
        assert torch.isfinite(levels).all(), scheduler
        assert (levels[:-1] > levels[1:]).all(), scheduler


def test_branches_together_equal_branches_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
    tiny: Any,
    prepare: Callable[..., Any],
    sample: Callable[..., torch.Tensor],
) -> None:
    given, sizes = prepare(tiny), []

    def note(executor: Any, x: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        sizes.append(len(x))
        return executor(x, *rest, **more)

    model = tiny.model.clone()
    model.add_wrapper_with_key("diffusion_model", "note", note)
    together = sample(model, given)
    monkeypatch.setattr(tiny.model.model, "memory_usage_factor", 1e12)
    apart = sample(model, given)
    assert sizes == [8, 8, 4, 4, 4, 4]
    assert distance(together, apart) < 1e-5


def test_runs_leave_nothing_behind_and_clips_of_a_batch_do_not_mix(
    tiny: Any, prepare: Callable[..., Any], sample: Callable[..., torch.Tensor]
) -> None:
    left, right = prepare(tiny, "pan left", seed=1), prepare(tiny, "zoom out", frames=6, seed=2)
    first = sample(tiny.model, left)
    assert not torch.equal(sample(tiny.model, right)[:4], first)
    assert torch.equal(sample(tiny.model, left), first)

    two = replace(left, latent={"samples": left.latent["samples"].repeat(2, 1, 1, 1)})
    both = sample(tiny.model, two)
    assert distance(both[:4], first) < 1e-5


def lora(up: str, down: str, model: Any) -> dict[str, torch.Tensor]:
    """A LoRA for the query of a spatial self-attention, 64 features wide, under these names."""
    draw = torch.Generator().manual_seed(5)
    assert model.model.diffusion_model.input_blocks[3][1].transformer_blocks[0].attn1.to_q.weight.shape == (
        64,
        64,
    )
    return {up: torch.randn(64, 4, generator=draw), down: torch.randn(4, 64, generator=draw)}


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q.lora_{}.weight",
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.lora_{}.weight",
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.{}.weight",
    ],
    ids=["ldm", "kohya", "diffusers"],
)
def test_a_lora_changes_the_video_and_leaves_with_its_model(
    host_module: Host,
    tiny: Any,
    prepare: Callable[..., Any],
    sample: Callable[..., torch.Tensor],
    name: str,
) -> None:
    given = prepare(tiny)
    before = sample(tiny.model, given)
    weights = lora(name.format("up"), name.format("down"), tiny.model)
    patched, _ = host_module("comfy.sd").load_lora_for_models(tiny.model, None, weights, 1.0, 0.0)
    assert patched.patches
    assert (sample(patched, given) - before).abs().max() > 1e-3
    assert torch.equal(sample(tiny.model, given), before)


def test_weights_that_stay_in_slow_memory_give_the_same_video(
    host_module: Host, tiny: Any, prepare: Callable[..., Any], sample: Callable[..., torch.Tensor]
) -> None:
    given, unet = prepare(tiny), tiny.model.model.diffusion_model
    before = sample(tiny.model, given)
    tiny.model.detach()
    management = host_module("comfy.model_management")
    management.unload_all_models()
    tiny.model.load(tiny.model.load_device, lowvram_model_memory=64 * 1024)
    left_out = [module for module in unet.modules() if getattr(module, "comfy_cast_weights", False)]
    y, text = torch.randn(4, 24, 8, 8), torch.randn(4, 7, 64)
    arguments = (y, torch.full((4,), 300.0), text, torch.randn(4, 64))
    low = unet(*arguments, num_video_frames=4)
    tiny.model.detach()
    tiny.model.load(tiny.model.load_device, full_load=True)
    assert len(left_out) > 10
    torch.testing.assert_close(unet(*arguments, num_video_frames=4), low, atol=1e-5, rtol=1e-5)
    tiny.model.detach()
    torch.testing.assert_close(sample(tiny.model, given), before)


def test_the_host_can_load_the_model_again_by_itself(tiny: Any) -> None:
    factory, arguments = tiny.model.cached_patcher_init
    again = factory(*arguments, disable_dynamic=True)
    ours, theirs = tiny.model.model.state_dict(), again.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())
    assert again.model.latent_format.latent_rgb_factors == tiny.model.model.latent_format.latent_rgb_factors


def test_progress_previews_and_cancel(
    monkeypatch: pytest.MonkeyPatch,
    host_module: Host,
    tiny: Any,
    prepare: Callable[..., Any],
    sample: Callable[..., torch.Tensor],
) -> None:
    management, utils = host_module("comfy.model_management"), host_module("comfy.utils")
    args = host_module("comfy.cli_args")
    monkeypatch.setattr(args.args, "preview_method", args.LatentPreviewMethod.Auto)
    seen: list[int] = []

    def hook(value: int, total: int, preview: Any, **_: Any) -> None:
        assert preview[1].size == (8, 8)
        seen.append(value)
        if value == 2:
            management.interrupt_current_processing()

    utils.set_progress_bar_global_hook(hook)
    try:
        with pytest.raises(management.InterruptProcessingException):
            sample(tiny.model, prepare(tiny), steps=6)
    finally:
        utils.set_progress_bar_global_hook(None)
        management.interrupt_current_processing(False)
    assert seen == [1, 2]


def test_a_controlnet_s_output_is_the_core_s_residuals(
    core: Callable[[str], Any], pack: ModuleType, host_module: Host, tiny: Any
) -> None:
    unet, plain = tiny.model.model.diffusion_model, tiny.saved.checkpoint.unet
    x, text, pooled = torch.randn(4, 24, 8, 8), torch.randn(4, 7, 64), torch.randn(4, 64)
    shapes = [(4, 32, 8, 8), (4, 32, 8, 8), (4, 32, 4, 4), (4, 64, 4, 4)]
    skips, middle = [torch.randn(shape) for shape in shapes], torch.randn(4, 64, 4, 4)
    control = {"output": [None, *skips[1:]], "middle": [middle]}
    out = unet(x, torch.full((4,), 300.0), text, pooled, control, num_video_frames=4)
    assert len(control["output"]) == 4

    def clip(rows: torch.Tensor) -> torch.Tensor:
        return rows.movedim(0, 1)[None]

    seams = core("model.seams").Seams(core("model.seams").Residuals((None, *map(clip, skips[1:])), clip(middle)))
    expected = plain(clip(x), torch.full((1,), 300.0), text[:1], pooled_text=pooled[:1], seams=seams)
    torch.testing.assert_close(clip(out), expected, atol=1e-5, rtol=1e-5)
    adapted = unet(x, torch.full((4,), 300.0), text, pooled, {"input": [skips[0]]}, num_video_frames=4)
    assert adapted.shape == out.shape
    assert not torch.allclose(adapted, out)


def test_what_does_not_fit_is_refused_in_one_sentence(
    tiny: Any, prepare: Callable[..., Any], sample: Callable[..., torch.Tensor]
) -> None:
    given = prepare(tiny, frames=4)

    def refused(match: str, **changes: Any) -> None:
        with pytest.raises(ValueError, match=match):
            sample(tiny.model, replace(given, **changes))

    def without(*keys: str) -> list[Any]:
        return [[text, {k: v for k, v in more.items() if k not in keys}] for text, more in given.positive]

    def latent(*shape: int) -> dict[str, torch.Tensor]:
        return {"samples": torch.zeros(*shape)}

    refused("latent has 5 frames, but the conditioning was made for 4", latent=latent(5, 12, 8, 8))
    refused(
        "given image's latent is 8 x 8 with 12 channels, the one to sample 12 x 8",
        latent=latent(4, 12, 8, 12),
    )
    refused(
        "animates a given image and got none: connect I2V Conditioning",
        negative=without("concat_latent_image"),
    )
    refused("pooled text of width 64, got none", positive=without("pooled_output"))
    refused("text tokens of width 64, got width 768", positive=[[torch.zeros(1, 77, 768), given.positive[0][1]]])
    refused(
        "one prompt for the whole video, got a batch of 4",
        positive=[[torch.zeros(4, 7, 64), given.positive[0][1]]],
    )
    refused("latents have 12 channels, got 4", latent={"samples": torch.ones(4, 4, 8, 8)})
    assert torch.isfinite(sample(tiny.model, given)).all()


def test_a_model_that_looks_at_the_image_asks_for_tokens(
    save: Callable[..., Any],
    load: Callable[[Any], Any],
    prepare: Callable[..., Any],
    sample: Callable[..., Any],
) -> None:
    loaded = load(save("looks", "dynamicrafter_512", image_gate="fixed"))
    with pytest.raises(ValueError, match="connect clip_vision and image_projection"):
        sample(loaded.model, prepare(loaded))
