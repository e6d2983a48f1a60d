"""Look-back on the host's own models: what it leaves alone, what it holds, and that pieces make the whole."""

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.nodes.stable_diffusion import CHANNELS, LEVELS, conditioning, stable_diffusion

Core = Callable[[str], Any]
MakeAdapter = Callable[..., Any]


@pytest.fixture(scope="module")
def host_sd(pack: ModuleType) -> Any:
    """The host's Stable Diffusion 1.5 in small."""
    with torch.inference_mode():
        return stable_diffusion()


@pytest.fixture(scope="module")
def adapter(core: Core, node_classes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> MakeAdapter:
    """Make an adapter file and load it with the node; `scale` is how far its weights are from the identity."""
    import folder_paths

    folder = tmp_path_factory.mktemp("model_patches")
    folder_paths.add_model_folder_path("model_patches", str(folder))
    look_back = core("model.look_back")

    def make(name: str, scale: float = 0.0, model_channels: int = CHANNELS, **changes: Any) -> Any:
        sites = look_back.find_sites(changes.get("placement", "stage"), model_channels, LEVELS, 1)
        with torch.inference_mode(False):
            module = look_back.LookBack(look_back.LookBackConfig(**{"sites": sites, **changes}))
            look_back.initialize_look_back(module)
            draw = torch.Generator().manual_seed(1)
            for weight in module.parameters():
                weight.data += scale * torch.randn(weight.shape, generator=draw) / weight[0].numel() ** 0.5
        core("weights.adapters").save_adapter(folder / f"{name}.safetensors", "look_back", module)
        return node_classes["I2VLoadAdapter"].execute(f"{name}.safetensors").result[0]

    return make


@pytest.fixture(scope="module")
def moving(adapter: MakeAdapter) -> Any:
    """An adapter that does something, causal, after every block."""
    return adapter("moving", 0.3, adapter="causal", placement="block")


@pytest.fixture(scope="module")
def given(core: Core, node_classes: dict[str, Any]) -> Any:
    """An encoded picture, 8 x 8 latents."""
    image = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    sockets = __import__(node_classes["I2VApplyLookBack"].__module__.rsplit(".", 1)[0] + ".sockets", fromlist=["x"])
    return sockets.GivenImage(image)


@pytest.fixture(scope="module")
def apply(node_classes: dict[str, Any], given: Any) -> Callable[..., Any]:
    def applied(model: Any, adapter: Any, initialization: str = "hybrid", frames_at_once: int = 0) -> Any:
        execute = node_classes["I2VApplyLookBack"].execute
        return execute(model, adapter, given, initialization, frames_at_once).result[0]

    return applied


def run(
    model: Any, latent: torch.Tensor | dict[str, Any], sampler: str = "euler", cfg: float = 2.0, **more: Any
) -> Any:
    """Latents `t c h w` of the host's KSampler."""
    import nodes

    latent = latent if isinstance(latent, dict) else {"samples": latent}
    positive, negative = more.pop("conds", None) or conditioning(1, 2)
    settings = {"seed": 5, "steps": 3, "cfg": cfg, "sampler_name": sampler, "scheduler": "normal", **more}
    arguments = {"positive": positive, "negative": negative, "latent_image": latent, **settings}
    return nodes.KSampler().sample(model, **arguments)[0]["samples"]


def network(model: Any, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """One call of the model's U-Net on one clip, with its wrappers."""
    options = {"wrappers": model.wrappers, "cond_or_uncond": [0]}
    unet = model.model.diffusion_model
    return unet(x, torch.full((len(x),), 300.0), context=text.expand(len(x), -1, -1), transformer_options=options)


def distance(video: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, in units of the largest value."""
    return float((video - expected).abs().max() / expected.abs().max())


EMPTY = torch.zeros(8, 4, 8, 8)


@pytest.mark.parametrize("version", ["SD15", "SD20"])
def test_a_new_adapter_leaves_every_frame_bit_equal_and_so_does_removing_it(
    pack: ModuleType, adapter: MakeAdapter, apply: Callable[..., Any], version: str
) -> None:
    model = stable_diffusion(version)
    x, text = torch.randn(5, 4, 8, 8), torch.randn(1, 7, 64)
    names = list(model.model.state_dict())
    before = network(model, x, text)
    for placement in ("stage", "block"):
        patched = apply(model, adapter(f"identity_{placement}", placement=placement))
        assert torch.equal(network(patched, x, text), before)
    whole = run(model, EMPTY)
    looking = apply(model, adapter("identity_causal", adapter="causal"), "inversion")
    assert torch.equal(run(looking, EMPTY)[1:], whole[1:])
    assert torch.equal(run(model, EMPTY), whole)
    assert torch.equal(network(model, x, text), before)
    assert list(model.model.state_dict()) == names


def test_the_host_s_unet_and_ours_do_the_same_with_one_adapter(
    core: Core, host_sd: Any, moving: Any, apply: Callable[..., Any]
) -> None:
    build, configs = core("build"), core("model.video_unet")
    config = configs.VideoUNetConfig(
        model_channels=CHANNELS, channel_mult=LEVELS, num_res_blocks=1, attention_levels=(0, 1), num_heads=8,
        context_dim=64, temporal_convolution=False, temporal_attention=False, init_attention=False,
    )  # fmt: skip
    ours = build.build_unet(config)
    theirs = host_sd.model.diffusion_model.state_dict()
    # Stable Diffusion 1.5 has projections as convolutions of one position.
    ours.load_state_dict({key: theirs[key].reshape(weight.shape) for key, weight in ours.state_dict().items()})
    look_back = build.build_look_back(moving.contents.config)
    look_back.load_state_dict(moving.contents.tensors)
    x, text = torch.randn(6, 4, 8, 8), torch.randn(1, 7, 64)
    clip = x.movedim(0, 1)[None]
    expected = ours(clip, torch.tensor([300.0]), text, after_block=look_back.after_block())[0].movedim(0, 1)
    plain = ours(clip, torch.tensor([300.0]), text)[0].movedim(0, 1)
    assert distance(plain, expected) > 1e-2
    assert distance(network(apply(host_sd, moving), x, text), expected) < 1e-5
    assert distance(network(host_sd, x, text), plain) < 1e-5


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral", "heun", "uni_pc", "euler_cfg_pp"])
def test_frame_0_is_the_given_image_for_every_sampler_and_the_network_sees_it_clean(
    host_module: Callable[[str], Any], host_sd: Any, moving: Any, apply: Callable[..., Any], given: Any, sampler: str
) -> None:
    patched, seen = apply(host_sd, moving), []

    def watch(executor: Any, x: torch.Tensor, *further: Any, **named: Any) -> torch.Tensor:
        seen.extend(x.reshape(-1, 8, 4, 8, 8)[:, 0])
        return executor(x, *further, **named)

    patched.add_wrapper_with_key(host_module("comfy.patcher_extension").WrappersMP.DIFFUSION_MODEL, "watch", watch)
    video = run(patched, EMPTY, sampler)
    assert torch.equal(video[0], given.latent[0])
    assert video.isfinite().all()
    assert len(seen) >= 6
    clean = host_sd.model.process_latent_in(given.latent)[0]
    assert all(distance(frame, clean) < 1e-5 for frame in seen)


@pytest.mark.parametrize("initialization", ["add_noise", "inversion"])
def test_frame_0_is_the_given_image_whatever_it_starts_from(
    host_sd: Any, moving: Any, apply: Callable[..., Any], given: Any, initialization: str
) -> None:
    hybrid = run(apply(host_sd, moving), EMPTY)
    video = run(apply(host_sd, moving, initialization), EMPTY)
    assert torch.equal(video[0], given.latent[0])
    assert distance(video, hybrid) > 1e-3


def test_ksampler_and_the_custom_sampler_agree(host_sd: Any, moving: Any, apply: Callable[..., Any]) -> None:
    from comfy_extras.nodes_custom_sampler import (
        BasicScheduler,
        CFGGuider,
        KSamplerSelect,
        RandomNoise,
        SamplerCustomAdvanced,
    )

    patched = apply(host_sd, moving, frames_at_once=3)
    (guider,) = CFGGuider.execute(patched, *conditioning(1, 2), 2.0).result
    (noise,), (sampler,) = RandomNoise.execute(5).result, KSamplerSelect.execute("euler").result
    (sigmas,) = BasicScheduler.execute(patched, "normal", 3, 1.0).result
    out, clean = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, {"samples": EMPTY}).result
    assert torch.equal(out["samples"], run(patched, EMPTY))
    assert distance(clean["samples"], out["samples"]) < 1e-5


@pytest.mark.parametrize("sampler", ["euler", "ddim", "dpmpp_2m", "heun"])
def test_a_video_in_pieces_equals_the_whole_with_the_causal_adapter(
    host_sd: Any, moving: Any, apply: Callable[..., Any], sampler: str
) -> None:
    latent = torch.zeros(10, 4, 8, 8)
    whole = run(apply(host_sd, moving), latent, sampler)
    assert distance(run(apply(host_sd, moving, frames_at_once=3), latent, sampler), whole) < 1e-4
    alone = run(apply(host_sd, moving), latent[:3], sampler)
    assert distance(alone, whole[:3]) < 1e-4


def test_the_centered_adapter_looks_one_frame_ahead_and_pieces_show_it(
    host_sd: Any, adapter: MakeAdapter, apply: Callable[..., Any]
) -> None:
    centered = adapter("centered", 0.3, placement="block")
    latent = torch.zeros(8, 4, 8, 8)
    whole, pieces = (run(apply(host_sd, centered, frames_at_once=n), latent) for n in (0, 2))
    assert 1e-4 < distance(pieces, whole) < 1
