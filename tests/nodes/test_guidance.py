"""The dual guider in the host: its algebra, its passes, and what the host does around it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

SIZE, FRAMES, STEPS = 32, 4, 2


@dataclass(frozen=True)
class Conditions:
    """The conditions of one picture and prompt: f(t,i), f(t,0), f(0,i), f(0,0)."""

    full: Any
    text_only: Any
    image_only: Any
    null: Any
    latent: Any
    image: Any
    positive: Any
    negative: Any


@pytest.fixture(scope="module")
def given(tiny: Any, node_classes: dict[str, Any]) -> Conditions:
    import nodes as host_nodes

    picture = torch.rand(1, 40, 60, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        text, empty = (host_nodes.CLIPTextEncode().encode(tiny.clip, words)[0] for words in ("pan left", ""))
        image = node_classes["I2VEncodeImage"].execute(tiny.vae, picture, SIZE, SIZE, "crop").result[0]
        without = node_classes["I2VWithoutImage"].execute(image).result[0]
        join = node_classes["I2VConditioning"].execute
        full, image_only, latent = join(text, empty, image, FRAMES).result
        text_only, null, _ = join(text, empty, without, FRAMES).result
    return Conditions(full, text_only, image_only, null, latent, image, text, empty)


@pytest.fixture
def run(host_module: Callable[[str], Any]) -> Callable[..., Tensor]:
    """SamplerCustomAdvanced on a guider: latents `t c h w`."""
    custom = host_module("comfy_extras.nodes_custom_sampler")

    def sampled(guider: Any, latent: Any, sampler: str = "euler") -> Tensor:
        sigmas = custom.BasicScheduler.execute(guider.model_patcher, "simple", STEPS, 1.0)[0]
        chosen, noise = custom.KSamplerSelect.execute(sampler)[0], custom.RandomNoise.execute(0)[0]
        return custom.SamplerCustomAdvanced.execute(noise, guider, chosen, sigmas, latent)[0]["samples"]

    return sampled


@pytest.fixture
def guide(node_classes: dict[str, Any], given: Conditions) -> Callable[..., Any]:
    """Dual-Guidance Guider on the given conditions."""

    def guider(model: Any, text: float, image: float, order: str = "text_first", **scales: Any) -> Any:
        single = given.text_only if order == "text_first" else given.image_only
        return node_classes["I2VDualGuidanceGuider"].execute(
            model=model, full=given.full, single=single, null=given.null,
            text_scale=text, image_scale=image, order=order, **scales,
        ).result[0]  # fmt: skip

    return guider


def counting(model: Any, calls: list[int]) -> Any:
    """A copy of the model that notes how many conditions each network call holds."""

    def note(
        executor: Any, x: Tensor, t: Tensor, context: Tensor, y: Any, control: Any, options: Any, **more: Any
    ) -> Any:
        calls.append(len(options["cond_or_uncond"]))
        return executor(x, t, context, y, control, options, **more)

    counted = model.clone()
    counted.add_wrapper_with_key("diffusion_model", "count", note)
    return counted


def test_image_first_equals_the_host_s_dual_guider(
    tiny: Any, given: Conditions, guide: Any, run: Any, host_module: Callable[[str], Any]
) -> None:
    custom = host_module("comfy_extras.nodes_custom_sampler")
    for text, image in ((3.0, 2.0), (1.0, 4.0), (2.5, 1.0), (0.0, 3.0)):
        arguments = (tiny.model, given.full, given.image_only, given.null, text, image, "regular")
        theirs = run(custom.DualCFGGuider.execute(*arguments)[0], given.latent)
        ours = run(guide(tiny.model, text, image, "image_first"), given.latent)
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5


@pytest.mark.parametrize("order", ["text_first", "image_first"])
def test_equal_scales_equal_the_host_s_ordinary_guider(
    tiny: Any, given: Conditions, guide: Any, run: Any, host_module: Callable[[str], Any], order: str
) -> None:
    custom = host_module("comfy_extras.nodes_custom_sampler")
    theirs = run(custom.CFGGuider.execute(tiny.model, given.full, given.null, 3.0)[0], given.latent)
    ours = run(guide(tiny.model, 3.0, 3.0, order), given.latent)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("text", "image", "passes"),
    [(0, 0, 1), (0, 1, 3), (0, 3, 3), (1, 0, 1), (1, 1, 1), (1, 3, 2), (3, 0, 2), (3, 1, 3), (3, 3, 2), (3, 5, 3)],
)
@pytest.mark.parametrize("order", ["text_first", "image_first"])
def test_passes_without_weight_are_not_run(
    tiny: Any, given: Conditions, guide: Any, run: Any, order: str, text: int, image: int, passes: int
) -> None:
    calls: list[int] = []
    scales = (text, image) if order == "text_first" else (image, text)
    run(guide(counting(tiny.model, calls), *map(float, scales), order), given.latent)
    assert sum(calls) == STEPS * passes


def test_passes_together_equal_passes_in_turn(
    monkeypatch: pytest.MonkeyPatch, tiny: Any, given: Conditions, guide: Any, run: Any
) -> None:
    calls: list[int] = []
    guider = guide(counting(tiny.model, calls), 3.0, 2.0)
    together = run(guider, given.latent)
    monkeypatch.setattr(tiny.model.model, "memory_usage_factor", 1e12)
    apart = run(guider, given.latent)
    assert calls == [3] * STEPS + [1] * 3 * STEPS
    assert float((together - apart).abs().max() / apart.abs().max()) < 1e-5


def test_a_schedule_decides_the_passes_of_each_step(tiny: Any, given: Conditions, guide: Any, run: Any) -> None:
    calls: list[int] = []
    schedule = {"text_schedule": "linear", "image_schedule": "linear"}
    run(guide(counting(tiny.model, calls), 4.0, 2.0, **schedule), given.latent)
    assert calls == [3, 1]  # the last step is at the end scales of 1


@pytest.mark.parametrize("preset", ["modelscope", "videocrafter2", "demo"])
@pytest.mark.parametrize(("text", "image"), [(4.0, 2.0), (4.0, 0.0), (1.0, 3.0)])
def test_one_step_equals_the_core_s_guidance_with_rescale(
    core: Callable[[str], Any],
    save: Callable[..., Any],
    load: Callable[[Any], Any],
    node_classes: dict[str, Any],
    host_module: Callable[[str], Any],
    preset: str,
    text: float,
    image: float,
) -> None:
    loaded = load(save(f"rescale_{preset}", preset))
    checkpoint, sigma = loaded.saved.checkpoint, 3.0
    draw = torch.Generator().manual_seed(2)
    texts, pooled = torch.randn(3, 7, 64, generator=draw), torch.randn(3, 64, generator=draw)
    images = torch.randn(3, 12, 1, 8, 8, generator=draw)
    scale = checkpoint.autoencoder.config.scale_factor
    branches, conditionings = [], []
    for i in range(3):
        branches.append(core("conditions").Conditions(texts[i : i + 1], pooled[i : i + 1], images[i : i + 1]))
        values = {"pooled_output": pooled[i : i + 1], "concat_latent_image": images[i : i + 1, :, 0] / scale}
        conditionings.append([[texts[i : i + 1], {**values, "i2v_frames": FRAMES}]])
    y = torch.randn(1, 12, FRAMES, 8, 8, generator=draw) * sigma
    weights = core("diffusion.guidance").DualGuidance(text, image, rescale=0.7).at(0)
    denoiser = core("denoiser").Denoiser.of(checkpoint.unet, checkpoint.preset)
    expected = denoiser.denoise_branches(y, torch.tensor(sigma), branches, weights)

    names = dict(zip(("full", "single", "null"), conditionings, strict=True))
    guider = node_classes["I2VDualGuidanceGuider"].execute(
        model=loaded.model, **names, text_scale=text, image_scale=image, order="text_first", rescale=0.7
    ).result[0]  # fmt: skip
    seen: list[Tensor] = []

    def once(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, **_: Any) -> Tensor:
        seen.append(model(y[0].movedim(0, 1), sigmas.new_full((FRAMES,), sigma), **extra_args))
        return x

    sampler = host_module("comfy.samplers").KSAMPLER(once)
    rows = torch.zeros(FRAMES, 12, 8, 8)
    guider.sample(rows, rows, sampler, torch.tensor([sigma, 0.0]))
    torch.testing.assert_close(seen[0].movedim(0, 1)[None], expected, rtol=1e-4, atol=1e-4)


def test_hooks_before_and_after_guidance_are_called_with_what_they_look_for(
    tiny: Any, given: Conditions, guide: Any, run: Any
) -> None:
    seen: dict[str, Any] = {}

    def before(arguments: dict[str, Any]) -> list[Tensor]:
        seen["before"] = arguments
        return [arguments["conds_out"][0], arguments["conds_out"][1]]  # as hooks of ordinary guidance do

    def after(arguments: dict[str, Any]) -> Tensor:
        seen["after"] = arguments
        return torch.zeros_like(arguments["denoised"])

    model = tiny.model.clone()
    model.set_model_sampler_pre_cfg_function(before)
    plain = run(guide(model, 3.0, 2.0), given.latent)
    assert torch.equal(plain, run(guide(tiny.model, 3.0, 2.0), given.latent))
    assert len(seen["before"]["conds_out"]) == 3
    model.set_model_sampler_post_cfg_function(after)
    result = run(guide(model, 3.0, 2.0), given.latent)
    assert result.abs().max() < 1e-5
    assert seen["after"]["cond_scale"] == pytest.approx(3.0)
    assert seen["after"]["cond_denoised"].shape == given.latent["samples"].shape


def test_a_guidance_function_of_another_node_guides_the_first_condition(
    tiny: Any, given: Conditions, guide: Any, run: Any
) -> None:
    model = tiny.model.clone()
    ordinary = lambda a: a["uncond"] + a["cond_scale"] * (a["cond"] - a["uncond"])  # noqa: E731
    model.set_model_sampler_cfg_function(ordinary)
    for text, image in ((3.0, 2.0), (3.0, 3.0), (2.0, 0.0)):
        replaced = run(guide(model, text, image), given.latent)
        plain = run(guide(tiny.model, text, image), given.latent)
        assert float((replaced - plain).abs().max() / plain.abs().max()) < 1e-4


def test_hooks_on_single_conditions_are_registered_and_taken_back(
    tiny: Any, given: Conditions, guide: Any, run: Any, host_module: Callable[[str], Any], node_classes: dict[str, Any]
) -> None:
    hooks = host_module("comfy.hooks")
    name = "diffusion_model.input_blocks.1.0.in_layers.2.weight"
    weight = tiny.model.model.state_dict()[name]
    group = hooks.HookGroup()
    hook = hooks.WeightHook(strength_model=1.0, strength_clip=0.0)
    hook.weights = {name: ("diff", (torch.ones_like(weight),))}
    hook.need_weight_init = False
    group.add(hook)
    hooked = hooks.set_hooks_for_conditioning(given.full, group)
    plain = run(guide(tiny.model, 3.0, 2.0), given.latent)
    guider = node_classes["I2VDualGuidanceGuider"].execute(
        model=tiny.model, full=hooked, single=given.text_only, null=given.null,
        text_scale=3.0, image_scale=2.0, order="text_first",
    ).result[0]  # fmt: skip
    assert not torch.allclose(run(guider, given.latent), plain)
    assert torch.equal(run(guide(tiny.model, 3.0, 2.0), given.latent), plain)


def test_cancel_ends_the_sampling_and_leaves_the_guider_usable(
    tiny: Any, given: Conditions, guide: Any, run: Any, host_module: Callable[[str], Any]
) -> None:
    management = host_module("comfy.model_management")
    guider = guide(tiny.model, 3.0, 2.0)
    expected = run(guider, given.latent)
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        run(guider, given.latent)
    management.interrupt_current_processing(False)
    assert torch.equal(run(guider, given.latent), expected)


@pytest.mark.parametrize("order", ["text_first", "image_first"])
def test_the_sampler_is_the_guider_with_the_conditions_made(
    tiny: Any, given: Conditions, guide: Any, run: Any, node_classes: dict[str, Any], order: str
) -> None:
    made = node_classes["I2VDualGuidanceSampler"].execute(
        model=tiny.model, positive=given.positive, negative=given.negative, i2v_image=given.image, frames=FRAMES,
        seed=0, steps=STEPS, sampler_name="euler", scheduler="simple", text_scale=3.0, image_scale=2.0, order=order,
    ).result[0]  # fmt: skip
    assert torch.equal(made["samples"], run(guide(tiny.model, 3.0, 2.0, order), given.latent))


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "euler_ancestral", "uni_pc"])
def test_samplers_that_stop_between_steps_work(
    tiny: Any, given: Conditions, guide: Any, run: Any, sampler: str
) -> None:
    result = run(guide(tiny.model, 3.0, 2.0, text_schedule="cosine"), given.latent, sampler)
    assert result.isfinite().all()


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_scale_that_is_no_number_is_refused(tiny: Any, guide: Any, scale: float) -> None:
    with pytest.raises(ValueError, match=r"text_scale expects a number from 0\.0 to 100\.0"):
        guide(tiny.model, scale, 1.0)
    with pytest.raises(ValueError, match="image_end_scale expects a number"):
        guide(tiny.model, 1.0, 1.0, image_end_scale=scale)


def test_conditions_of_different_sizes_are_refused(tiny: Any, given: Conditions, node_classes: dict[str, Any]) -> None:
    picture = torch.rand(1, 64, 64, 3)
    image = node_classes["I2VEncodeImage"].execute(tiny.vae, picture, 64, 64, "crop").result[0]
    larger = node_classes["I2VConditioning"].execute(given.positive, given.negative, image, FRAMES).result[0]
    longer = node_classes["I2VConditioning"].execute(given.positive, given.negative, given.image, 6).result[0]
    for other, what in ((larger, "latents of different shapes"), (longer, r"different numbers of frames \(4, 6\)")):
        with pytest.raises(ValueError, match=what):
            node_classes["I2VDualGuidanceGuider"].execute(
                model=tiny.model, full=given.full, single=other, null=given.null,
                text_scale=2.0, image_scale=2.0, order="text_first",
            )  # fmt: skip


def test_no_image_is_white_or_the_null_tokens(given: Conditions, pack: Any, node_classes: dict[str, Any]) -> None:
    without = given.image.without()
    assert torch.equal(without.latent, given.image.white_latent)
    assert without.pixels.min() == without.pixels.max() == 1
    tokens = type(given.image)(torch.zeros(1, 4, 8, 8), torch.ones(1, 5, 64), torch.zeros(1, 5, 64))
    null = tokens.without()
    assert torch.equal(null.latent, tokens.latent)
    assert torch.equal(null.image_tokens, tokens.null_image_tokens)
