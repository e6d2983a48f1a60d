"""The image adapter: nothing at its start, and with its weights the network that has image attention natively."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from i2v_core.model.attention import ImageGate, ImageStream, scaled_dot_product_attention
from i2v_core.model.image_encoder import ImageEncoderConfig
from i2v_core.model.image_injection import (
    ImageAdapter,
    ImageAdapterConfig,
    ImageInjectionConfig,
    VisualDetailConfig,
    check_image_sites,
    find_image_sites,
    initialize_image_adapter,
)
from i2v_core.model.image_projection import ImageProjectionConfig
from i2v_core.model.seams import Seams
from i2v_core.model.video_unet import VideoUNet
from tests.core.weights.small import SMALL, SMALL_IMAGE_MODEL, seed

PROJECTION = ImageProjectionConfig(
    features=32, depth=1, heads=1, queries=2, frames=3, image_features=32, output_features=64
)
ENCODER = ImageEncoderConfig(size=16, patch=8, features=32, layers=1, heads=1)


def adapter_for(unet: VideoUNet, *, gate: Any = "fixed", **changes: Any) -> ImageAdapter:
    injection = ImageInjectionConfig(find_image_sites(unet), context_dim=64, image_gate=gate, **changes)
    return seed(ImageAdapter(ImageAdapterConfig(PROJECTION, injection, ENCODER)))


@pytest.fixture(scope="module")
def base() -> VideoUNet:
    return seed(VideoUNet(SMALL))


@pytest.fixture
def given() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = {"x": (2, 4, 3, 8, 8), "text": (2, 5, 64), "image": (2, 3, 20, 24), "latent": (2, 4, 1, 8, 8)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def run(unet: VideoUNet, given: dict[str, Tensor], **further: Any) -> Tensor:
    with torch.no_grad():
        return unet(given["x"], torch.tensor([300, 700]), given["text"], **further)


@pytest.mark.parametrize("gate", ["fixed", "learned"])
def test_at_its_start_the_base_answers_as_without_it(base: VideoUNet, given: dict[str, Tensor], gate: str) -> None:
    adapter = adapter_for(base, gate=gate, visual_detail=VisualDetailConfig(4, 32))
    initialize_image_adapter(adapter)
    tokens, hint = adapter.tokens(given["image"]), adapter.injection.hint(given["latent"])
    assert tokens.std() > 0.1
    with_adapter = run(
        base, given, image_tokens=tokens, seams=Seams(hint=hint, image_streams=adapter.injection.streams)
    )
    assert torch.equal(with_adapter, run(base, given))


@pytest.mark.parametrize("gate", ["fixed", "learned"])
@pytest.mark.parametrize("shared", [False, True])
def test_with_its_weights_the_base_is_the_network_that_has_image_attention(
    base: VideoUNet, given: dict[str, Tensor], gate: ImageGate, shared: bool
) -> None:
    adapter = adapter_for(base, gate=gate)
    native = VideoUNet(replace(SMALL, image_gate=gate)).eval()
    native.load_state_dict({**base.state_dict(), **adapter.injection.state_dict()})
    tokens = adapter.tokens(given["image"])
    tokens = tokens.flatten(1, 2) if shared else tokens
    added = run(base, given, image_tokens=tokens, seams=Seams(image_streams=adapter.injection.streams))
    assert torch.equal(added, run(native, given, image_tokens=tokens))
    assert (added - run(base, given)).abs().max() > 0.01


def test_visual_detail_is_the_network_with_channels_for_the_image(base: VideoUNet, given: dict[str, Tensor]) -> None:
    adapter = adapter_for(base, visual_detail=VisualDetailConfig(4, 32))
    wider = VideoUNet(replace(SMALL, in_channels=8)).eval()
    weights, first = dict(base.state_dict()), "input_blocks.0.0.weight"
    weights[first] = torch.cat([weights[first], adapter.injection.state_dict()["visual_detail.weight"]], dim=1)
    wider.load_state_dict(weights)
    joined = torch.cat([given["x"], given["latent"].expand(-1, -1, 3, -1, -1)], dim=1)
    expected = run(wider, {**given, "x": joined})
    actual = run(base, given, seams=Seams(hint=adapter.injection.hint(given["latent"])))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_a_single_token_is_seen_alike_from_everywhere(base: VideoUNet) -> None:
    stream = next(iter(adapter_for(base).injection.streams.values()))
    assert isinstance(stream, ImageStream)
    tokens = torch.randn(2, 3, 1, 64)
    width = stream.to_v_ip.out_features
    found = stream.image_keys_values(tokens)
    seen = found.attend(torch.randn(6, 5, width), 3, 1, scaled_dot_product_attention)
    wanted = stream.to_v_ip(tokens).reshape(6, 1, width).expand(-1, 5, -1)
    torch.testing.assert_close(seen, wanted, rtol=0, atol=1e-6)


def test_gradient_checkpointing_changes_no_gradient_of_the_streams(base: VideoUNet, given: dict[str, Tensor]) -> None:
    adapter, tokens = adapter_for(base), torch.randn(2, 3, 2, 64)
    gradients = []
    for checkpointing in (False, True):
        base.gradient_checkpointing = checkpointing
        adapter.zero_grad()
        answer = base(
            given["x"], torch.tensor([300, 700]), given["text"],
            image_tokens=tokens, seams=Seams(image_streams=adapter.injection.streams),
        )  # fmt: skip
        answer.square().mean().backward()
        gradients.append([stream.to_v_ip.weight.grad.clone() for stream in adapter.injection.streams.values()])
    base.gradient_checkpointing = False
    torch.testing.assert_close(gradients[0], gradients[1])


def test_an_image_model_takes_it_as_well() -> None:
    assert len(find_image_sites(VideoUNet(SMALL_IMAGE_MODEL, device="meta"))) == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_mult": (1, 1)}, r"stream for 'input_blocks.3.1.* of width 64, the model has one of width 32"),
        ({"attention_levels": (1,)}, r"stream for 'input_blocks.1.1.* of width 32, the model has none"),
        ({"image_gate": "fixed"}, "image attention of its own"),
        ({"in_channels": 8}, "the model has channels for it already"),
    ],
)
def test_another_base_is_refused_by_its_first_mismatch(base: VideoUNet, changes: dict[str, Any], message: str) -> None:
    config = adapter_for(base, visual_detail=VisualDetailConfig(4, 32)).config.injection
    check_image_sites(config, base)
    with pytest.raises(ValueError, match=message):
        check_image_sites(config, VideoUNet(replace(SMALL, **changes), device="meta"))


def test_without_an_encoder_the_features_must_come_from_outside(base: VideoUNet) -> None:
    adapter = ImageAdapter(ImageAdapterConfig(PROJECTION, ImageInjectionConfig()))
    with pytest.raises(ValueError, match=r"holds no image encoder: give conditions.image_tokens.* 32 wide"):
        adapter.tokens(torch.zeros(1, 3, 16, 16))
