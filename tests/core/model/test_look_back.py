"""Look-back: Algorithm 1, its order in time, its start as the identity, and its state between pieces of a video."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from i2v_core.model.blocks import use_channels_last
from i2v_core.model.look_back import (
    LOOK_BACK_PRESETS,
    LookBack,
    LookBackConfig,
    LookBackSite,
    LookBackState,
    check_sites,
    find_sites,
    initialize_look_back,
    look_back_literally,
)
from i2v_core.model.seams import Seams
from i2v_core.model.video_unet import VideoUNet
from tests.core.weights.small import SMALL, SMALL_IMAGE_MODEL, largest_difference, seed

CHANNELS = 8
CONFIG = LookBackConfig(sites={"middle_0": CHANNELS})
VARIANTS = {
    "plain": CONFIG,
    "groups": replace(CONFIG, groups=2),
    "zeros": replace(CONFIG, padding="zeros"),
    "causal": replace(CONFIG, adapter="causal"),
    "residual": replace(CONFIG, residual=True),
    "bottleneck": replace(CONFIG, residual=True, bottleneck=4, adapter="causal"),
    "one frame deep": replace(CONFIG, depth=1),
    "five frames deep": replace(CONFIG, depth=5, kernel=5),
}


def made(config: LookBackConfig, dtype: torch.dtype = torch.float32) -> LookBack:
    """Random weights, recurrent ones small enough that long clips do not grow."""
    torch.manual_seed(0)
    look_back = LookBack(config, dtype=dtype).eval()
    with torch.no_grad():
        for name, parameter in look_back.named_parameters():
            if "history" in name:
                parameter.div_(config.depth)
    return look_back


def site_of(look_back: LookBack) -> LookBackSite:
    site = look_back.sites["middle_0"]
    assert isinstance(site, LookBackSite)
    return site


def clip(frames: int, channels: int = CHANNELS, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, frames, 5, 6, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("depth", range(1, 7))
@pytest.mark.parametrize("kernel", [1, 3, 5])
@torch.inference_mode()
def test_fast_equals_algorithm_1(depth: int, kernel: int) -> None:
    for padding, groups in itertools.product(("repeat", "zeros"), (1, 2)):
        site = site_of(made(replace(CONFIG, depth=depth, kernel=kernel, padding=padding, groups=groups)))
        for frames in (1, 2, depth, 9, 48):
            h = clip(frames)
            assert largest_difference(site.recur(h)[0], look_back_literally(site, h)) < 1e-5


@torch.inference_mode()
def test_fast_equals_algorithm_1_in_bfloat16_within_its_rounding() -> None:
    exact = made(replace(CONFIG, depth=4))
    h = clip(16)
    wanted = look_back_literally(site_of(exact), h)
    rounded = site_of(exact.to(torch.bfloat16))
    fast, literal = (f.float() for f in (rounded.recur(h.bfloat16())[0], look_back_literally(rounded, h.bfloat16())))
    assert largest_difference(fast, literal) < 0.03 * wanted.abs().max()
    assert largest_difference(fast, wanted) < 0.03 * wanted.abs().max()


@torch.inference_mode()
def test_channels_last_weights_change_nothing() -> None:
    look_back, h = made(CONFIG), clip(6)
    before = look_back(h, "middle_0")
    use_channels_last(look_back)
    assert site_of(look_back).history.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(look_back(h, "middle_0"), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changed", [0, 3, 7])
@torch.inference_mode()
def test_a_frame_changes_no_update_before_it_and_every_one_after_it(changed: int) -> None:
    site, h = site_of(made(CONFIG)), clip(8)
    other = h.clone()
    other[:, :, changed] += 1
    differs = (site.recur(h)[0] != site.recur(other)[0]).any(0).any(0).flatten(1).any(1).tolist()
    assert differs == [frame >= changed for frame in range(8)]


@torch.inference_mode()
def test_the_first_frame_reaches_the_last_of_a_long_clip() -> None:
    site, h = site_of(made(replace(CONFIG, depth=2))), clip(32)
    with torch.no_grad():
        site.history.weight.zero_()
        torch.nn.init.dirac_(site.history.weight)
    other = h.clone()
    other[:, :, 0] += 1
    assert largest_difference(site.recur(h)[0][:, :, -1], site.recur(other)[0][:, :, -1]) > 0.01


@pytest.mark.parametrize(("adapter", "reach"), [("causal", 0), ("centered", 1)])
@torch.inference_mode()
def test_the_adapter_looks_ahead_only_if_centered(adapter: str, reach: int) -> None:
    look_back, h = made(replace(CONFIG, adapter=adapter)), clip(8)  # type: ignore[arg-type]
    other = h.clone()
    other[:, :, 5] += 1
    same = (look_back(h, "middle_0") == look_back(other, "middle_0")).transpose(0, 2).flatten(1).all(1).tolist()
    assert same == [frame < 5 - reach for frame in range(8)]


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
@torch.inference_mode()
def test_starts_as_the_identity_in_every_precision(config: LookBackConfig) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        look_back = LookBack(config)
        initialize_look_back(look_back)
        h = clip(7).to(dtype)
        assert torch.equal(look_back.to(dtype)(h, "middle_0"), h)


def image_unet() -> VideoUNet:
    return seed(VideoUNet(SMALL_IMAGE_MODEL))


def on(unet: VideoUNet, **settings: object) -> LookBackConfig:
    sites = find_sites("stage", unet.config.model_channels, unet.config.channel_mult, unet.config.num_res_blocks)
    return replace(LookBackConfig(sites=sites), **settings)  # type: ignore[arg-type]


def call(unet: VideoUNet, x: Tensor, look_back: LookBack | None = None, **state: LookBackState) -> Tensor:
    text = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(1))
    after_block = None if look_back is None else look_back.after_block(state.get("state"))
    return unet(x, torch.full((1,), 500.0), text, seams=Seams(after_block=after_block))


@torch.inference_mode()
def test_a_network_with_new_look_back_is_the_image_model_bit_for_bit() -> None:
    unet, x = image_unet(), torch.randn(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    look_back = LookBack(on(unet))
    initialize_look_back(look_back)
    assert torch.equal(call(unet, x, look_back), call(unet, x))


def test_gradients_reach_every_parameter_through_the_network() -> None:
    unet, x = image_unet(), torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    look_back = made(on(unet, depth=3, residual=True, bottleneck=16))
    call(unet, x, look_back).square().mean().backward()
    for name, parameter in look_back.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("settings", [{}, {"padding": "zeros"}, {"residual": True, "bottleneck": 16}, {"depth": 1}])
@torch.inference_mode()
def test_pieces_that_carry_the_state_equal_the_whole_with_the_causal_adapter(settings: dict[str, object]) -> None:
    unet, x = image_unet(), torch.randn(1, 4, 9, 16, 16, generator=torch.Generator().manual_seed(0))
    look_back = made(on(unet, adapter="causal", **settings))
    state = LookBackState(device="cpu")
    pieces = [call(unet, piece, look_back, state=state) for piece in x.split([1, 4, 2, 2], dim=2)]
    torch.testing.assert_close(torch.cat(pieces, dim=2), call(unet, x, look_back), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_pieces_differ_from_the_whole_with_the_centered_adapter_only_near_their_ends() -> None:
    look_back, h = made(CONFIG), clip(12)
    state = LookBackState()
    pieces = torch.cat([look_back(piece, "middle_0", state) for piece in h.split(6, dim=2)], dim=2)
    exact = (pieces - look_back(h, "middle_0")).abs().amax(dim=(0, 1, 3, 4)) < 1e-5
    assert exact.tolist() == [frame != 5 for frame in range(12)]


@torch.inference_mode()
def test_the_state_does_not_grow_with_the_video() -> None:
    look_back, state = made(replace(CONFIG, depth=4, adapter="causal")), LookBackState()
    assert not state.begun
    assert state.nbytes == 0
    for _ in range(3):
        look_back(clip(5), "middle_0", state)
        assert state.nbytes == (3 + 2) * clip(1).numel() * 4
    assert state.begun


@torch.inference_mode()
def test_the_first_frame_is_kept_where_asked_and_only_at_the_video_s_start() -> None:
    look_back, h, state = made(CONFIG), clip(4), LookBackState()
    usual = look_back(h, "middle_0")
    kept = look_back(h, "middle_0", state, keep_first=True)
    assert torch.equal(kept[:, :, 0], h[:, :, 0])
    assert torch.equal(kept[:, :, 1:], usual[:, :, 1:])
    assert not torch.equal(look_back(h, "middle_0", state, keep_first=True)[:, :, 0], h[:, :, 0])


def test_a_block_without_a_module_passes_unchanged() -> None:
    h = clip(4)
    assert made(CONFIG)(h, "input_1") is h


def test_sites_are_the_blocks_whose_outputs_have_their_channels() -> None:
    for config in (SMALL, SMALL_IMAGE_MODEL):
        seen: dict[str, int] = {}

        def note(h: Tensor, address: object, seen: dict[str, int] = seen) -> Tensor:
            seen[f"{address.part}_{address.index}"] = h.shape[1]  # type: ignore[attr-defined]
            return h

        unet = seed(VideoUNet(config))
        unet(torch.randn(1, 4, 1, 8, 8), torch.zeros(1), torch.randn(1, 5, 64), seams=Seams(after_block=note))
        shape = config.model_channels, config.channel_mult, config.num_res_blocks
        for placement in ("stage", "block"):
            assert find_sites(placement, *shape).items() < seen.items()  # type: ignore[arg-type]
        assert find_sites("layer", *shape) == seen


def test_presets_have_the_sites_and_sizes_of_stable_diffusion_1_5() -> None:
    for preset, count, millions in (("paper", 25, 2878), ("compact", 9, 258)):
        config = LOOK_BACK_PRESETS[preset]
        sites = find_sites(config.placement, 320, [1, 2, 4, 4], [2, 2, 2, 2])
        look_back = LookBack(replace(config, sites=sites), device="meta")
        assert len(sites) == count
        assert sum(p.numel() for p in look_back.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)


def test_another_u_net_is_refused_by_its_first_mismatch() -> None:
    with pytest.raises(ValueError, match="needs block 'middle_0' with 8 channels, which in this model has 16"):
        check_sites(CONFIG, {"middle_0": 16})
    with pytest.raises(ValueError, match="which in this model is missing"):
        check_sites(CONFIG, {"input_1": 8})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": 4}, "an odd kernel, got 3 and 4"),
        ({"depth": 0}, "a depth from 1"),
        ({"bottleneck": 4}, "a bottleneck of 4 channels cannot pass the frame itself"),
        ({"groups": 3}, "3 groups do not divide the 8 channels of 'middle_0'"),
    ],
)
def test_impossible_configurations_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **settings)  # type: ignore[arg-type]
