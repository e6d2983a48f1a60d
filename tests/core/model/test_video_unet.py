"""Laws of the one video U-Net; its agreement with other implementations is tested with the loader."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from i2v_core.model.attention import TransformerBlock, scaled_dot_product_attention
from i2v_core.model.seams import BlockAddress, Residuals, Seams
from i2v_core.model.video_unet import (
    VideoUNet,
    VideoUNetConfig,
    initialize_video_unet,
)
from i2v_core.weights.key_maps import ldm_to_temporal
from tests.core.weights.small import SMALL, SMALL_DYNAMICRAFTER, SMALL_IMAGE_MODEL, largest_difference, seed
from tests.parity.seeded import seeded_normal

EVERYTHING = replace(SMALL_DYNAMICRAFTER, image_gate="learned", relative_position=2, pooled_text_dim=24)
BLOCKS = [BlockAddress("input", i) for i in range(4)]
BLOCKS += [BlockAddress("middle", 0), *(BlockAddress("output", i) for i in range(4))]


def inputs(config: VideoUNetConfig, frames: int = 3, size: tuple[int, int] = (8, 4), batch: int = 2) -> dict[str, Any]:
    made: dict[str, Any] = {
        "x": seeded_normal("x", (batch, config.in_channels, frames, *size)),
        "timesteps": torch.tensor([801.0, 3.0])[:batch],
        "text": seeded_normal("text", (batch, 7, config.context_dim)),
    }
    if config.image_gate != "none":
        made["image_tokens"] = seeded_normal("image", (batch, frames, 5, config.context_dim))
    if config.fps_embedding:
        made["fps"] = torch.tensor([24, 8])[:batch]
    if config.pooled_text_dim:
        made["pooled_text"] = seeded_normal("pooled", (batch, config.pooled_text_dim))
    return made


@pytest.fixture(scope="module")
def unet() -> VideoUNet:
    return seed(VideoUNet(EVERYTHING))


@torch.no_grad()
def test_without_temporal_outputs_it_is_the_inflated_image_model() -> None:
    image = seed(VideoUNet(SMALL_IMAGE_MODEL))
    config = replace(SMALL_IMAGE_MODEL, temporal_convolution=True, temporal_attention=True, init_attention=True)
    video = seed(VideoUNet(config))
    result = video.load_state_dict(
        {ldm_to_temporal(name): tensor for name, tensor in image.state_dict().items()}, strict=False
    )
    assert not result.unexpected_keys
    outputs = ("temopral_conv.conv4.3", ".2.proj_out", "init_attn.0.proj_out")
    for name, parameter in video.named_parameters():
        if any(output in name for output in outputs):
            nn.init.zeros_(parameter)
    given = inputs(config)
    assert largest_difference(video(**given), image(**given)) < 1e-5


@torch.no_grad()
def test_an_image_model_treats_every_frame_alone() -> None:
    image, given = seed(VideoUNet(SMALL_IMAGE_MODEL)), inputs(SMALL_IMAGE_MODEL)
    frames = [image(**{**given, "x": given["x"][:, :, i : i + 1]}) for i in range(3)]
    assert largest_difference(image(**given), torch.cat(frames, dim=2)) < 1e-5


@torch.no_grad()
def test_clips_of_a_batch_do_not_see_each_other(unet: VideoUNet) -> None:
    given = inputs(EVERYTHING)
    alone = [unet(**{name: value[i : i + 1] for name, value in given.items()}) for i in range(2)]
    assert largest_difference(unet(**given), torch.cat(alone)) < 1e-4


@torch.no_grad()
def test_shared_image_tokens_are_the_same_tokens_for_every_frame(unet: VideoUNet) -> None:
    shared = seeded_normal("shared", (2, 5, 64))
    given = inputs(EVERYTHING)
    every = unet(**{**given, "image_tokens": repeat(shared, "b k d -> b t k d", t=3)})
    assert largest_difference(unet(**{**given, "image_tokens": shared}), every) < 1e-4


@torch.no_grad()
def test_image_tokens_of_another_length_are_spread_over_the_frames(unet: VideoUNet) -> None:
    given = inputs(EVERYTHING)
    still = repeat(given["image_tokens"][:, 0], "b k d -> b t k d", t=16)
    assert (
        largest_difference(unet(**{**given, "image_tokens": still}), unet(**{**given, "image_tokens": still[:, :3]}))
        < 1e-4
    )


@torch.no_grad()
def test_a_missing_rate_is_the_default(unet: VideoUNet) -> None:
    given = inputs(EVERYTHING)
    default = torch.full((2,), EVERYTHING.default_fps)
    assert torch.equal(unet(**{**given, "fps": None}), unet(**{**given, "fps": default}))
    assert largest_difference(unet(**given), unet(**{**given, "fps": None})) > 1e-4


def test_a_missing_pooled_text_is_an_error(unet: VideoUNet) -> None:
    with pytest.raises(ValueError, match="needs pooled_text"):
        unet(**{**inputs(EVERYTHING), "pooled_text": None})


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (9, 12), (3, 16)])
@pytest.mark.parametrize("frames", [1, 4])
def test_any_size_and_length_goes_through(size: tuple[int, int], frames: int) -> None:
    config = replace(SMALL, model_channels=64, channel_mult=(1, 1, 1), attention_levels=(2,))
    result = seed(VideoUNet(config))(**inputs(config, frames, size, batch=1))
    assert result.shape == (1, 4, frames, *size)
    assert result.isfinite().all()


def gradients(unet: VideoUNet) -> dict[str, Tensor | None]:
    given = inputs(EVERYTHING)
    unet.zero_grad(set_to_none=True)
    (unet(**given) * seeded_normal("weights", (2, 4, 3, 8, 4))).sum().backward()
    return {name: parameter.grad for name, parameter in unet.named_parameters()}


def test_gradients_reach_every_parameter(unet: VideoUNet) -> None:
    unreached = {name for name, gradient in gradients(unet).items() if gradient is None or not gradient.any()}
    assert not unreached


def test_gradient_checkpointing_changes_neither_output_nor_gradients(unet: VideoUNet) -> None:
    plain, output = gradients(unet), unet(**inputs(EVERYTHING))
    unet.gradient_checkpointing = True
    try:
        assert torch.equal(unet(**inputs(EVERYTHING)), output)
        again = gradients(unet)
    finally:
        unet.gradient_checkpointing = False
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@torch.no_grad()
def test_every_block_is_called_once_in_order(unet: VideoUNet) -> None:
    given, calls = inputs(EVERYTHING), []

    def look(h: Tensor, address: BlockAddress) -> Tensor:
        assert h.shape[0] == 2 and h.shape[2] == 3
        calls.append(address)
        return h

    assert torch.equal(unet(**given, seams=Seams(after_block=look)), unet(**given))
    assert calls == BLOCKS


@torch.no_grad()
@pytest.mark.parametrize("address", BLOCKS)
def test_what_the_call_returns_takes_the_place_of_a_block(unet: VideoUNet, address: BlockAddress) -> None:
    given = inputs(EVERYTHING)

    def erase(h: Tensor, here: BlockAddress) -> Tensor:
        return torch.zeros_like(h) if here == address else h

    assert largest_difference(unet(**given, seams=Seams(after_block=erase)), unet(**given)) > 1e-4


@torch.no_grad()
def test_replacing_the_last_block_decides_the_output(unet: VideoUNet) -> None:
    given, last = inputs(EVERYTHING), seeded_normal("last", (2, 32, 3, 8, 4))

    def replace_last(h: Tensor, here: BlockAddress) -> Tensor:
        return last if here == BLOCKS[-1] else h

    expected = rearrange(unet.out(rearrange(last, "b c t h w -> (b t) c h w")), "(b t) c h w -> b c t h w", t=3)
    assert largest_difference(unet(**given, seams=Seams(after_block=replace_last)), expected) < 1e-6


@torch.no_grad()
def test_seams_that_do_what_the_network_does_change_nothing(unet: VideoUNet) -> None:
    given, entered = inputs(EVERYTHING), []

    def before(here: BlockAddress, *features: Tensor) -> tuple[Tensor, ...]:
        entered.append((here, len(features)))
        return features

    def stand_in(block: TransformerBlock, x: Tensor, streams: Any, frames: int) -> Tensor:
        return block(x, streams, frames)

    def of_frames(embedding: Tensor) -> Tensor:
        return embedding.repeat_interleave(3, dim=0)

    seams = Seams(before_block=before, embedding=of_frames) + Seams(
        attention=scaled_dot_product_attention, stand_in=stand_in
    )
    assert largest_difference(unet(**given, seams=seams), unet(**given)) < 1e-5
    assert entered == [(here, 1 + (here.part == "output")) for here in BLOCKS]


@torch.no_grad()
def test_residuals_are_added_to_skips_and_middle(unet: VideoUNet) -> None:
    given, shapes = inputs(EVERYTHING), {}

    def note(h: Tensor, here: BlockAddress) -> Tensor:
        shapes[here] = h.shape
        return h

    plain = unet(**given, seams=Seams(after_block=note))
    middle = seeded_normal("middle", shapes[BlockAddress("middle", 0)])

    def add_middle(h: Tensor, here: BlockAddress) -> Tensor:
        return h + middle if here.part == "middle" else h

    result = unet(**given, seams=Seams(Residuals(middle=middle)))
    assert torch.equal(result, unet(**given, seams=Seams(after_block=add_middle)))
    assert largest_difference(result, plain) > 1e-4

    none = (None,) * 4
    assert torch.equal(unet(**given, seams=Seams(Residuals(skips=none))), plain)
    for i in range(4):
        skip = seeded_normal("skip", shapes[BlockAddress("input", i)])
        changed = unet(**given, seams=Seams(Residuals(skips=(*none[:i], skip))))
        assert largest_difference(changed, plain) > 1e-4


@torch.no_grad()
def test_a_residual_on_a_skip_reaches_the_decoder_only(unet: VideoUNet) -> None:
    given, seen = inputs(EVERYTHING), {}

    def remember(key: str) -> Any:
        def look(h: Tensor, here: BlockAddress) -> Tensor:
            seen[key, here] = h
            return h

        return look

    unet(**given, seams=Seams(after_block=remember("plain")))
    skip = seeded_normal("skip", seen["plain", BLOCKS[3]].shape)
    unet(**given, seams=Seams(Residuals(skips=(None, None, None, skip)), remember("added")))
    unchanged = [torch.equal(seen["plain", here], seen["added", here]) for here in BLOCKS]
    assert unchanged == [True] * 5 + [False] * 4


@torch.no_grad()
def test_a_new_network_starts_with_nothing_to_say() -> None:
    torch.manual_seed(0)
    unet = VideoUNet(EVERYTHING)
    initialize_video_unet(unet)
    given = inputs(EVERYTHING)
    assert not unet(**given).any()
    gates = [parameter for name, parameter in unet.named_parameters() if name.endswith("alpha")]
    assert gates and not any(gate.any() for gate in gates)
    nn.init.ones_(unet.out[-1].weight)
    faster = {**given, "fps": given["fps"] + 1}
    other_text = {**given, "text": -given["text"]}
    assert torch.equal(unet(**given), unet(**faster))
    assert torch.equal(unet(**given), unet(**other_text))


def test_layers_and_attention_can_be_the_hosts() -> None:
    made, calls = [], []

    class Operations:
        def __getattr__(self, name: str) -> Any:
            made.append(name)
            return getattr(nn, name)

    def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        calls.append(heads)
        return q

    config = replace(SMALL, image_gate="fixed")
    unet = seed(VideoUNet(config, operations=Operations(), attention=attention))
    unet(**inputs(config))
    layers = [
        m for m in unet.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d | nn.GroupNorm | nn.LayerNorm)
    ]
    assert len(made) == len(layers)
    assert {"Linear", "Conv2d", "Conv3d", "GroupNorm", "LayerNorm"} == set(made)
    # Two attentions in every transformer, and the image stream in the spatial ones: all but the first, every other.
    transformers = sum(name.endswith(".proj_in.weight") for name in unet.state_dict())
    assert len(calls) == 2 * transformers + (transformers - 1) // 2
    positions = 8 * 4  # stand beside the 8 heads of the first one, which attends over the frames
    assert calls[:2] == [8 * positions, 8 * positions]


def test_heads_never_vanish_in_narrow_levels() -> None:
    assert VideoUNetConfig().heads(320) == (5, 64)
    assert VideoUNetConfig().heads(32) == (1, 32)
    assert VideoUNetConfig(num_heads=8).heads(640) == (8, 80)


def test_all_group_norms_have_the_groups_of_the_configuration() -> None:
    unet = VideoUNet(replace(EVERYTHING, norm_groups=8))
    norms = {module.num_groups for module in unet.modules() if isinstance(module, nn.GroupNorm)}
    assert norms == {8}
