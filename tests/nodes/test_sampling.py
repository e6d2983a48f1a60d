"""Schedule, DDIM, analytic noise and guidance rescale in the host: the core's numbers through SamplerCustomAdvanced."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity import seeded

Core = Callable[[str], Any]
Network = Callable[[Tensor, float, bool], Tensor]  # rows, timestep, whether conditional


@dataclass(frozen=True)
class Custom:
    """The host's custom sampling with a function of our own in place of the network."""

    nodes: Any
    ddim: Any
    ksampler: Any

    def sample(
        self,
        model: Any,
        network: Network,
        sigmas: Tensor,
        sampler: Any,
        noise: Any,
        cfg: float = 1.0,
        rows: int = 4,
        text: Any = None,
    ) -> Tensor:
        """Latents `t c h w` in the model's scale."""

        def answer(_: Any, x: Tensor, times: Tensor, *rest: Any, **__: Any) -> Tensor:
            branches = next(part for part in rest if isinstance(part, dict) and part)["cond_or_uncond"]
            parts = zip(x.chunk(len(branches)), branches, strict=True)
            return torch.cat([network(part, times[0].item(), branch == 0) for part, branch in parts])

        toy = model.clone()
        toy.add_wrapper_with_key("diffusion_model", "toy", answer)
        text = text or [[torch.zeros(1, 7, 64), {"i2v_frames": 4}]]
        guider = self.nodes.CFGGuider.execute(toy, text, text, cfg)[0]
        latent = {"samples": torch.zeros(rows, 4, 8, 8)}
        out = self.nodes.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent)[0]
        return out["samples"] * model.model.latent_format.scale_factor

    def random(self, seed: int) -> Any:
        return self.nodes.RandomNoise.execute(seed)[0]


@pytest.fixture(scope="module")
def custom(pack: ModuleType, host_module: Core) -> Custom:
    ours = importlib.import_module(".nodes.host.samplers", pack.__name__)
    return Custom(
        host_module("comfy_extras.nodes_custom_sampler"), ours.sample_ddim_rows, host_module("comfy.samplers").KSAMPLER
    )


@pytest.fixture(scope="module")
def text_model(core: Core, save: Callable[..., Any], load: Callable[[Any], Any]) -> Callable[[str], Any]:
    """A tiny text-to-video model with four latent channels, on the schedule and prediction of a preset."""
    known: dict[str, Any] = {}

    def model(preset: str) -> Any:
        if preset not in known:
            autoencoder = core("model.autoencoder").AutoencoderConfig(32, (1, 2), 1, 4, 0.5)
            shape = {"in_channels": 4, "out_channels": 4, "pooled_text_dim": None, "channel_mult": (1,)}
            shape["attention_levels"] = ()
            known[preset] = load(save(f"text_{preset}", preset, autoencoder=autoencoder, **shape)).model
        return known[preset]

    return model


@dataclass(frozen=True)
class Given:
    """A NOISE that is known beforehand."""

    rows: Tensor
    seed: int = 0

    def generate_noise(self, _: dict[str, Any]) -> Tensor:
        return self.rows


def rows_of(clip: Tensor) -> Tensor:
    return clip.movedim(1, 2).flatten(0, 1)


def toy(x: Tensor, t: float, conditional: bool) -> Tensor:
    """The network of the parity cases."""
    return (0.6 * torch.tanh(x) - 0.3 * torch.sin(3 * x + t / 250)) * (1.0 if conditional else 0.8)


@pytest.mark.parametrize("name", ["ddim_512_eta0_50", "ddim_512_eta1_50"])
def test_the_host_reproduces_the_official_trajectories(
    core: Core, node_classes: dict[str, Any], custom: Custom, text_model: Callable[[str], Any], name: str
) -> None:
    case = seeded.load(name)
    schedule = core("diffusion.schedule")
    path = schedule.reference_trajectory(
        schedule.Schedule(schedule.ScheduleConfig(zero_terminal_snr=True, rescale_base=case["scale_base"])),
        case["steps"],
        "trailing",
    )
    model = node_classes["I2VGuidanceRescale"].execute(text_model("dynamicrafter_512"), case["guidance_rescale"])[0]
    sigmas = node_classes["I2VSchedule"].execute(model, case["steps"])[0]
    torch.testing.assert_close(sigmas[1:-1], path.sigmas[1:-1].float())
    # The official loop starts at a signal of exactly zero, which eta 1 can tell from the host's finite start.
    sigmas = torch.cat([path.sigmas[:1].float(), sigmas[1:]])

    def noise(step: int) -> Tensor:
        return rows_of(seeded.seeded_normal(f"{name}/noise/{step}", case["shape"]))

    start = Given(rows_of(seeded.seeded_normal(f"{name}/x_T", case["shape"])))
    sampler = custom.ksampler(custom.ddim, {"eta": case["eta"], "reference_end": True, "noise": noise})
    result = custom.sample(model, toy, sigmas, sampler, start, case["cfg"])
    expected = rows_of(seeded.expected(case)["output"])
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("preset", ["dynamicrafter_1024", "dynamicrafter_256"])
def test_the_sampler_is_the_core_s_ddim(
    core: Core,
    pack: ModuleType,
    node_classes: dict[str, Any],
    custom: Custom,
    text_model: Callable[[str], Any],
    preset: str,
    eta: float,
) -> None:
    model, seed, prediction = text_model(preset), 7, core("diffusion.prediction")
    known = core("presets").PRESETS[preset]
    schedule = core("diffusion.schedule").Schedule(known.schedule)
    sigmas = schedule.sigmas(12, known.spacing)
    fresh = importlib.import_module(".nodes.host.samplers", pack.__name__).seeded_noise

    def denoise(y: Tensor, sigma: Tensor) -> Tensor:
        scale = schedule.scale_at(sigma)
        z = prediction.network_input(y, sigma, scale)
        return prediction.to_denoised(known.prediction, toy(z, schedule.timestep(sigma).item(), True), y, sigma, scale)

    noise = custom.random(seed).generate_noise({"samples": torch.zeros(4, 4, 8, 8)})
    level = 1 / prediction.network_input(torch.ones(()), sigmas[0], schedule.scale_at(sigmas[0]))
    if sigmas[0] < schedule.sigma_max:
        level = sigmas[0]
    expected = core("diffusion.samplers").sample_ddim(
        denoise, noise * level, sigmas, eta=eta, noise=fresh(noise, seed), scales=schedule.scale_at(sigmas)
    )
    result = custom.sample(
        model,
        toy,
        node_classes["I2VSchedule"].execute(model, 12)[0],
        node_classes["I2VDDIMSampler"].execute(eta)[0],
        custom.random(seed),
    )
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_no_number_of_steps_gives_nan_and_the_last_latent_is_not_shrunk(
    core: Core, node_classes: dict[str, Any], custom: Custom, text_model: Callable[[str], Any], eta: float
) -> None:
    """The counts at which the published formula is NaN, and round ones, with a network that knows the video."""
    model, truth = text_model("dynamicrafter_1024"), torch.randn(4, 4, 8, 8)
    sampling, prediction = model.get_model_object("model_sampling"), core("diffusion.prediction")

    def oracle(z: Tensor, t: float, _: bool) -> Tensor:
        sigma = sampling.sigma(torch.tensor(t, dtype=torch.float64))
        scale = sampling.schedule.scale_at(sigma)
        y = z / prediction.network_input(torch.ones_like(sigma), sigma, scale)
        return prediction.from_denoised("v", truth, y, sigma, scale).to(z)

    sampler = node_classes["I2VDDIMSampler"].execute(eta)[0]
    shrunk = node_classes["I2VDDIMSampler"].execute(eta, True)[0]
    for steps in (1, 2, 7, 11, 14, 15, 20, 25, 33, 38, 61, 64, 100):
        sigmas = node_classes["I2VSchedule"].execute(model, steps)[0]
        result = custom.sample(model, oracle, sigmas, sampler, custom.random(steps))
        torch.testing.assert_close(result, truth, atol=1e-3, rtol=1e-3)
        if steps == 20:
            washed = custom.sample(model, oracle, sigmas, shrunk, custom.random(steps))
            ratio = (washed * truth).sum() / (truth * truth).sum()
            assert ratio.item() == pytest.approx(0.914, abs=2e-3)


@pytest.mark.parametrize(
    ("preset", "spacing", "steps"),
    [
        ("dynamicrafter_512", "trailing", 50),
        ("dynamicrafter_256", "uniform", 30),
        ("demo", "trailing", 20),
    ],
)
def test_the_schedule_is_the_model_s_own(
    core: Core,
    node_classes: dict[str, Any],
    text_model: Callable[[str], Any],
    preset: str,
    spacing: str,
    steps: int,
) -> None:
    schedule = core("diffusion.schedule").Schedule(core("presets").PRESETS[preset].schedule)
    execute, model = node_classes["I2VSchedule"].execute, text_model(preset)
    torch.testing.assert_close(execute(model, steps)[0], schedule.sigmas(steps, spacing).float())
    for chosen in ("trailing", "uniform"):
        torch.testing.assert_close(execute(model, steps, chosen)[0], schedule.sigmas(steps, chosen).float())
    early = execute(model, 47, "trailing", 940)[0]
    torch.testing.assert_close(early[0], schedule.sigma[939].float())
    assert len(early) == 48
    with pytest.raises(ValueError, match="steps must be between 1 and 40, got 50"):
        execute(model, 50, "trailing", 40)


@pytest.mark.parametrize("start", [1000, 940])
def test_analytic_noise_starts_at_the_paper_s_gaussian(
    core: Core, node_classes: dict[str, Any], custom: Custom, text_model: Callable[[str], Any], start: int
) -> None:
    model, seed, variance = text_model("dynamicrafter_256"), 3, 0.8
    sigmas = node_classes["I2VSchedule"].execute(model, 4, "trailing", start)[0]
    mean = torch.randn(4, 4, 8, 8)
    noise = node_classes["I2VAnalyticNoise"].execute(model, sigmas, seed, variance, {"samples": mean})[0]
    seen: list[Tensor] = []

    def watch(z: Tensor, _: float, __: bool) -> Tensor:
        seen.append(z)
        return torch.zeros_like(z)

    custom.sample(model, watch, sigmas, node_classes["I2VDDIMSampler"].execute(0.0)[0], noise, rows=8)
    plain = custom.random(seed).generate_noise({"samples": torch.zeros(8, 4, 8, 8)})
    start_y = core("diffusion.analytic_noise").analytic_start(plain, sigmas[0], mean.repeat(2, 1, 1, 1) * 0.5, variance)
    expected = core("diffusion.prediction").network_input(start_y, sigmas[0])
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="latent has 6 frames, the mean 4"):
        noise.generate_noise({"samples": torch.zeros(6, 4, 8, 8)})


@pytest.mark.parametrize("preset", ["dynamicrafter_512", "dynamicrafter_256", "demo"])
def test_rescale_is_the_core_s_on_the_raw_prediction_of_each_clip(
    core: Core, node_classes: dict[str, Any], custom: Custom, text_model: Callable[[str], Any], preset: str
) -> None:
    """Two clips in one batch, whose spreads differ."""
    model, known = text_model(preset), core("presets").PRESETS[preset]
    guidance, prediction = core("diffusion.guidance"), core("diffusion.prediction")
    schedule = core("diffusion.schedule").Schedule(known.schedule)
    sigma = torch.tensor([2.0, 0.0])
    noise, weight = torch.randn(8, 4, 8, 8), torch.linspace(0.2, 2, 8)[:, None, None, None]

    def network(z: Tensor, _: float, conditional: bool) -> Tensor:
        return weight * (z.sin() if conditional else z.cos())

    rescaled = node_classes["I2VGuidanceRescale"].execute(model, 0.7)[0]
    result = custom.sample(rescaled, network, sigma, custom.ksampler(custom.ddim), Given(noise), cfg=5.0, rows=8)
    y, scale = noise * sigma[0], schedule.scale_at(sigma[0])
    z = prediction.network_input(y, sigma[0], scale)
    value = guidance.ClassifierFreeGuidance(5.0, 0.7)
    for clip in (slice(0, 4), slice(4, 8)):
        raw = [network(z, 0, conditional)[clip].movedim(0, 1)[None] for conditional in (True, False)]
        guided = value.combine(*raw)[0].movedim(0, 1)
        expected = prediction.to_denoised(known.prediction, guided, y[clip], sigma[0], scale)
        torch.testing.assert_close(result[clip], expected, atol=2e-5, rtol=2e-5)
    plain = custom.sample(model, network, sigma, custom.ksampler(custom.ddim), Given(noise), cfg=5.0, rows=8)
    assert not torch.allclose(plain, result)


def test_rescale_of_differences_to_the_image_leaves_the_image_out(
    core: Core,
    host_module: Core,
    node_classes: dict[str, Any],
    save: Callable[..., Any],
    load: Callable[[Any], Any],
    prepare: Callable[..., Any],
) -> None:
    """The demo model predicts differences to the given image: amount 1 gives them the conditional spread exactly."""
    loaded = load(save("residual_rescale", "demo"))
    given, custom = prepare(loaded), host_module("comfy_extras.nodes_custom_sampler")
    model = node_classes["I2VGuidanceRescale"].execute(loaded.model, 1.0)[0]
    inner = loaded.model.model
    sampler, seen = custom.KSamplerSelect.execute("euler")[0], []

    def note(args: dict[str, Any]) -> Tensor:
        seen.append((args["denoised"], args["cond_denoised"]))
        return args["denoised"]

    model.set_model_sampler_post_cfg_function(note)
    guider = custom.CFGGuider.execute(model, given.positive, given.negative, 6.0)[0]
    noise = custom.RandomNoise.execute(0)[0]
    custom.SamplerCustomAdvanced.execute(noise, guider, sampler, torch.tensor([3.0, 0.0]), given.latent)
    origin = inner.process_latent_in(given.positive[0][1]["concat_latent_image"])
    spread, wanted = ((estimate - origin).std() for estimate in seen[0])
    assert spread.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_flow_models_are_refused_in_one_sentence(
    host_module: Core, node_classes: dict[str, Any], custom: Custom, text_model: Callable[[str], Any]
) -> None:
    flow = host_module("comfy_extras.nodes_model_advanced").ModelSamplingSD3().patch(text_model("modelscope"), 3.0)[0]
    with pytest.raises(ValueError, match="DDIM and its noise are for models that predict noise or v"):
        node_classes["I2VAnalyticNoise"].execute(flow, torch.tensor([1.0, 0.0]), 0)
    sampler = node_classes["I2VDDIMSampler"].execute(0.0)[0]
    with pytest.raises(ValueError, match="choose a sampler with KSamplerSelect"):
        custom.sample(flow, toy, torch.tensor([1.0, 0.0]), sampler, custom.random(0))


def test_ddim_reports_previews_and_can_be_cancelled(
    host_module: Core, node_classes: dict[str, Any], tiny: Any, prepare: Callable[..., Any]
) -> None:
    custom, given = host_module("comfy_extras.nodes_custom_sampler"), prepare(tiny)
    management, utils = host_module("comfy.model_management"), host_module("comfy.utils")
    seen: list[tuple[int, int]] = []

    def hook(value: int, total: int, _: Any, **__: Any) -> None:
        seen.append((value, total))
        if value == 1:  # newer hosts leave out reports that follow one another too quickly
            management.interrupt_current_processing()

    def sample() -> Tensor:
        guider = custom.CFGGuider.execute(tiny.model, given.positive, given.negative, 2.0)[0]
        sampler = node_classes["I2VDDIMSampler"].execute(1.0)[0]
        sigmas = node_classes["I2VSchedule"].execute(tiny.model, 6, "trailing")[0]
        noise = custom.RandomNoise.execute(0)[0]
        return custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, given.latent)[0]["samples"]

    before = sample()
    utils.set_progress_bar_global_hook(hook)
    try:
        with pytest.raises(management.InterruptProcessingException):
            sample()
    finally:
        utils.set_progress_bar_global_hook(None)
        management.interrupt_current_processing(False)
    assert seen == [(1, 6)]
    assert torch.equal(sample(), before)


def test_rescale_suits_an_image_model_of_the_host(
    core: Core, host_module: Core, node_classes: dict[str, Any], custom: Custom
) -> None:
    """A tiny Stable Diffusion 1.5 of the host's own classes: every row of its batch is a picture by itself."""
    shape = {"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1]}
    shape |= {"channel_mult": (1,), "transformer_depth": [0], "transformer_depth_output": [0, 0]}
    shape |= {"transformer_depth_middle": 0, "context_dim": 64, "num_heads": 1, "use_spatial_transformer": True}
    config = host_module("comfy.supported_models").SD15(shape | {"legacy": False, "dtype": torch.float32})
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    model = host_module("comfy.model_patcher").ModelPatcher(config.get_model({}, "", cpu), cpu, cpu)
    guidance, prediction = core("diffusion.guidance"), core("diffusion.prediction")
    noise, sigma = torch.randn(3, 4, 8, 8), torch.tensor([2.0, 0.0])
    weight = torch.tensor([0.2, 1.0, 3.0])[:, None, None, None]

    def network(z: Tensor, _: float, conditional: bool) -> Tensor:
        return weight * (z.sin() if conditional else z.cos())

    text = [[torch.zeros(1, 7, 64), {}]]
    for amount in (0.0, 0.7):
        rescaled = node_classes["I2VGuidanceRescale"].execute(model, amount)[0]
        sampler = node_classes["I2VDDIMSampler"].execute(0.0)[0]
        result = custom.sample(rescaled, network, sigma, sampler, Given(noise), 5.0, rows=3, text=text)
        z = prediction.network_input(noise * sigma[0], sigma[0])
        raw = guidance.ClassifierFreeGuidance(5.0, amount).combine(network(z, 0, True), network(z, 0, False))
        expected = prediction.to_denoised("eps", raw, noise * sigma[0], sigma[0])
        torch.testing.assert_close(result, expected, atol=2e-5, rtol=2e-5)
    assert len(node_classes["I2VSchedule"].execute(model, 20)[0]) == 21
