"""Look-back on the host's own models: what it leaves alone, what it holds, and that pieces make the whole."""

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.nodes.stable_diffusion import CHANNELS, LEVELS, conditioning, seeded_weights, stable_diffusion

Core = Callable[[str], Any]
MakeAdapter = Callable[..., Any]


@pytest.fixture(scope="module")
def host_sd(pack: ModuleType) -> Any:
    """The host's Stable Diffusion 1.5 in small."""
    with torch.inference_mode():
        return stable_diffusion()


@pytest.fixture(scope="module")
def moving(look_back_adapter: MakeAdapter) -> Any:
    """An adapter that does something, causal, after every block."""
    return look_back_adapter("moving", 0.3, adapter="causal", placement="layer")


@pytest.fixture(scope="module")
def given(core: Core, node_classes: dict[str, Any]) -> Any:
    """An encoded picture, 8 x 8 latents."""
    image = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return core("conditions").GivenImage(image)


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
    pack: ModuleType, look_back_adapter: MakeAdapter, apply: Callable[..., Any], version: str
) -> None:
    # Down to a single position, where the layout in memory decides how the host's layers round.
    shape = (CHANNELS, (1, 2, 2, 2), 1)
    depth = {"transformer_depth": [1, 1, 1, 0], "transformer_depth_output": [0, 0, 1, 1, 1, 1, 1, 1]}
    model = stable_diffusion(version, channel_mult=list(shape[1]), num_res_blocks=[1] * 4, **depth)
    x, text = torch.randn(5, 4, 8, 8), torch.randn(1, 7, 64)
    names = list(model.model.state_dict())
    before = network(model, x, text)
    for placement in ("stage", "layer"):
        patched = apply(model, look_back_adapter(f"identity_{placement}", shape=shape, placement=placement))
        assert torch.equal(network(patched, x, text), before)
    whole = run(model, EMPTY)
    looking = apply(model, look_back_adapter("identity_causal", shape=shape, adapter="causal"), "inversion")
    assert torch.equal(run(looking, EMPTY)[1:], whole[1:])
    assert torch.equal(run(model, EMPTY), whole)
    assert torch.equal(network(model, x, text), before)
    assert list(model.model.state_dict()) == names


def test_the_host_s_unet_and_ours_do_the_same_with_one_adapter(
    core: Core, host_sd: Any, moving: Any, apply: Callable[..., Any]
) -> None:
    looking, configs = core("model.look_back"), core("model.video_unet")
    config = configs.VideoUNetConfig(
        model_channels=CHANNELS, channel_mult=LEVELS, num_res_blocks=1, attention_levels=(0, 1), num_heads=8,
        context_dim=64, temporal_convolution=False, temporal_attention=False, init_attention=False,
    )  # fmt: skip
    ours = configs.VideoUNet(config)
    theirs = host_sd.model.diffusion_model.state_dict()
    # Stable Diffusion 1.5 has projections as convolutions of one position.
    ours.load_state_dict({key: theirs[key].reshape(weight.shape) for key, weight in ours.state_dict().items()})
    look_back = looking.LookBack(moving.contents.config)
    look_back.load_state_dict(moving.contents.tensors)
    x, text = torch.randn(6, 4, 8, 8), torch.randn(1, 7, 64)
    clip = x.movedim(0, 1)[None]
    expected = ours(
        clip, torch.tensor([300.0]), text, seams=core("model.seams").Seams(after_block=look_back.after_block())
    )[0].movedim(0, 1)
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
    host_sd: Any, look_back_adapter: MakeAdapter, apply: Callable[..., Any]
) -> None:
    centered = look_back_adapter("centered", 0.3, placement="block")
    latent = torch.zeros(8, 4, 8, 8)
    whole, pieces = (run(apply(host_sd, centered, frames_at_once=n), latent) for n in (0, 2))
    assert 1e-4 < distance(pieces, whole) < 1


def test_memory_in_pieces_does_not_grow_with_the_video(
    host_module: Callable[[str], Any], host_sd: Any, moving: Any, apply: Callable[..., Any], caplog: Any
) -> None:
    patched, rows = apply(host_sd, moving, frames_at_once=2), []

    def loading(executor: Any, model: Any, noise_shape: Any, *further: Any, **named: Any) -> Any:
        rows.append(noise_shape[0])
        return executor(model, noise_shape, *further, **named)

    def watch(executor: Any, x: torch.Tensor, *further: Any, **named: Any) -> torch.Tensor:
        rows.append(len(x) // 2)
        return executor(x, *further, **named)

    wrappers = host_module("comfy.patcher_extension").WrappersMP
    patched.add_wrapper_with_key(wrappers.PREPARE_SAMPLING, "watch", loading)
    patched.add_wrapper_with_key(wrappers.DIFFUSION_MODEL, "watch", watch)
    with caplog.at_level("INFO"):
        for frames in (4, 8, 16):
            run(patched, torch.zeros(frames, 4, 8, 8))
    told = [record.message for record in caplog.records if "look-back carries" in record.message]
    assert len(told) == 3
    assert len(set(told)) == 1
    assert "1.5 MB" in told[0] and "3 calls" in told[0]
    assert set(rows) == {2}


def test_guidance_branches_may_run_together_or_alone_in_any_order(
    monkeypatch: pytest.MonkeyPatch, host_sd: Any, moving: Any, apply: Callable[..., Any]
) -> None:
    patched = apply(host_sd, moving, frames_at_once=3)
    together = run(patched, EMPTY)
    monkeypatch.setattr(host_sd.model, "memory_required", lambda *_, **__: 1e18)
    assert distance(run(patched, EMPTY), together) < 1e-5
    assert distance(run(apply(host_sd, moving), EMPTY), together) < 1e-4
    single = run(patched, EMPTY, cfg=1.0)
    assert distance(single, together) > 1e-3
    # A condition for part of the steps only, and two that share the picture.
    (positive, negative), (other,) = conditioning(1, 2), conditioning(3)
    early, late = ({"start_percent": a, "end_percent": b} for a, b in ((0.0, 0.4), (0.4, 1.0)))
    mixed = [[positive[0][0], early], [positive[0][0], late], other[0]]
    whole, pieces = (run(apply(host_sd, moving, frames_at_once=n), EMPTY, conds=(mixed, negative)) for n in (0, 3))
    assert distance(pieces, whole) < 1e-4


@pytest.mark.parametrize("frames_at_once", [0, 3])
def test_a_latent_may_hold_several_clips(
    host_sd: Any, moving: Any, apply: Callable[..., Any], frames_at_once: int
) -> None:
    conds = [[[text, {"i2v_frames": 5}]] for ((text, _),) in conditioning(1, 2)]
    patched = apply(host_sd, moving, frames_at_once=frames_at_once)
    latent = {"samples": torch.zeros(5, 4, 8, 8)}
    alone = run(patched, latent, conds=conds)
    two = run(patched, {"samples": torch.zeros(10, 4, 8, 8)}, conds=conds)
    assert distance(two[:5], alone) < 1e-5
    assert torch.equal(two[5], two[0])
    assert distance(two[6:], two[1:5]) > 1e-2
    with pytest.raises(ValueError, match="latent has 7 frames, but the conditioning was made for 5"):
        run(patched, torch.zeros(7, 4, 8, 8), conds=conds)


def test_a_lora_and_attention_patches_of_other_nodes_work_beside_it(
    host_module: Callable[[str], Any], host_sd: Any, moving: Any, apply: Callable[..., Any]
) -> None:
    draw = torch.Generator().manual_seed(5)
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    lora = {
        f"{name}.lora_up.weight": torch.randn(64, 4, generator=draw),
        f"{name}.lora_down.weight": torch.randn(4, 64, generator=draw),
    }
    patched = apply(host_sd, moving)
    before, load = run(patched, EMPTY), host_module("comfy.sd").load_lora_for_models
    after_look_back = run(load(patched, None, lora, 1.0, 0.0)[0], EMPTY)
    before_look_back = run(apply(load(host_sd, None, lora, 1.0, 0.0)[0], moving), EMPTY)
    assert distance(after_look_back, before) > 1e-3
    assert torch.equal(after_look_back, before_look_back)
    attending = patched.clone()
    attending.set_model_attn2_patch(lambda q, k, v, options: (q, k, v * 2))
    assert distance(run(attending, EMPTY), before) > 1e-3
    assert torch.equal(run(patched, EMPTY), before)


def controlled(host_sd: Any, hint: torch.Tensor) -> list[list[Any]]:
    """Conditions with a small seeded ControlNet of the host that looks at one picture for each frame."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    config = {k: v for k, v in host_sd.model.model_config.unet_config.items() if k not in ("out_channels", "dtype")}
    config = {k: v for k, v in config.items() if k != "transformer_depth_output"}
    network = comfy.cldm.cldm.ControlNet(hint_channels=3, **config, operations=comfy.ops.disable_weight_init)
    network.load_state_dict(seeded_weights(network, 7))
    cpu = torch.device("cpu")
    control = comfy.controlnet.ControlNet(network, load_device=cpu, manual_cast_dtype=None)
    control.set_cond_hint(hint, 1.0, (0.0, 1.0))
    return [[[text, {"control": control, "control_apply_to_uncond": False}]] for ((text, _),) in conditioning(1, 2)]


def test_a_controlnet_sees_the_picture_of_each_frame_in_pieces_too(
    host_sd: Any, moving: Any, apply: Callable[..., Any]
) -> None:
    hint = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(9))
    conds = controlled(host_sd, hint)
    free = run(apply(host_sd, moving), EMPTY)
    whole = run(apply(host_sd, moving), EMPTY, conds=conds)
    pieces = run(apply(host_sd, moving, frames_at_once=3), EMPTY, conds=conds)
    assert distance(whole, free) > 1e-3
    assert distance(pieces, whole) < 1e-4


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
def test_what_does_not_fit_is_refused_in_one_sentence(
    host_module: Callable[[str], Any],
    host_sd: Any,
    look_back_adapter: MakeAdapter,
    moving: Any,
    apply: Callable[..., Any],
) -> None:
    def refused(match: str, call: Callable[[], Any]) -> None:
        with pytest.raises(ValueError, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)

    wide = look_back_adapter("wide", shape=(64, (1, 2), 1))
    refused("'wide.safetensors' here: .* block 'input_1' with 64 channels, which in this model has 32",
            lambda: apply(host_sd, wide))  # fmt: skip
    deep = look_back_adapter("deep", sites={"input_1": 32, "input_7": 64})
    refused("block 'input_7' with 64 channels, which in this model is missing", lambda: apply(host_sd, deep))
    patched = apply(host_sd, moving)
    refused(
        "latent to sample is 12 x 8 with 4 channels, the given image's 8 x 8",
        lambda: run(patched, torch.zeros(2, 4, 8, 12)),
    )
    refused("already has look-back", lambda: apply(patched, moving))
    refused("other steps in every piece", lambda: run(apply(host_sd, moving, frames_at_once=2), EMPTY, "dpm_adaptive"))
    other = copy.copy(host_sd)
    other.model = torch.nn.Module()
    other.model.diffusion_model = torch.nn.Bilinear(1, 1, 1)
    refused("U-Net of the Stable Diffusion family.*got a Module with Bilinear", lambda: apply(other, moving))
    assert run(patched, EMPTY).isfinite().all()


def test_the_latent_pins_its_first_frame_for_any_model(
    node_classes: dict[str, Any], host_sd: Any, moving: Any, apply: Callable[..., Any], given: Any
) -> None:
    execute = node_classes["I2VVideoLatent"].execute
    (latent,) = execute(8, 512, 512, given).result
    assert latent["samples"].shape == (8, 4, 8, 8)
    assert distance(run(host_sd, latent)[:1], given.latent) < 1e-5
    for initialization in ("hybrid", "inversion"):
        video = run(apply(host_sd, moving, initialization), latent)
        assert torch.equal(video[0], given.latent[0])
    # A mask of the first frame only repeats what look-back does.
    empty = run(apply(host_sd, moving, "inversion"), EMPTY)
    assert distance(video, empty) < 1e-4
    assert execute(3, 128, 64).result[0]["samples"].shape == (3, 4, 8, 16)
    with pytest.raises(ValueError, match="from 1 to 4096, got 0"):
        execute(0, 64, 64, given)
    with pytest.raises(ValueError, match=r"68"):
        execute(1, 64, 68)
    (one,) = execute(1, 64, 64, given).result
    assert torch.equal(run(apply(host_sd, moving), one), given.latent)


def test_copies_of_the_model_share_the_adapter(host_sd: Any, moving: Any, apply: Callable[..., Any]) -> None:
    patched = apply(host_sd, moving)
    again = patched.clone().clone()
    (own,), (copied,) = (m.additional_models["i2v_look_back"] for m in (patched, again))
    assert own.model is copied.model
    (wrapper,) = patched.get_wrappers("diffusion_model", "look_back")
    assert copy.deepcopy(wrapper).__self__ is wrapper.__self__
    before = run(patched, EMPTY)
    # A loaded model is cloned, as every further node does, and both go on working.
    assert torch.equal(run(patched.clone(), EMPTY), before)
    assert torch.equal(run(patched, EMPTY), before)
