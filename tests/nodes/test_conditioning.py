import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch


def conditioning(value: float) -> list[Any]:
    return [[torch.full((1, 2, 3), value), {"pooled_output": torch.ones(1, 3), "of_another_node": value}]]


@pytest.fixture
def given_image(node_classes: dict[str, Any], tiny: Any) -> Any:
    execute = node_classes["I2VEncodeImage"].execute
    return execute(tiny.vae, torch.rand(1, 50, 70, 3), 48, 32, "crop").result[0]


def test_encoding_gives_the_vae_s_latent_and_the_picture_as_the_model_sees_it(
    node_classes: dict[str, Any], tiny: Any
) -> None:
    image = torch.rand(1, 50, 70, 3)
    given, fitted = node_classes["I2VEncodeImage"].execute(tiny.vae, image, 48, 32, "pad").result
    assert fitted.shape == (1, 32, 48, 3)
    assert given.latent.shape == (1, 12, 8, 12)
    assert torch.equal(given.latent, tiny.vae.encode(fitted))
    assert given.image_tokens is given.null_image_tokens is None


def test_conditioning_adds_to_copies_and_keeps_what_it_does_not_know(
    node_classes: dict[str, Any], given_image: Any
) -> None:
    positive, negative = conditioning(1.0), conditioning(2.0)
    before = copy.deepcopy((positive, negative))
    out = node_classes["I2VConditioning"].execute(positive, negative, given_image, 6, 12.0).result
    for given, original, result in zip((positive, negative), before, out[:2], strict=True):
        assert torch.equal(given[0][0], original[0][0])
        assert given[0][1].keys() == original[0][1].keys()
        added = result[0][1]
        assert added["of_another_node"] == original[0][1]["of_another_node"]
        assert added["concat_latent_image"] is given_image.latent
        assert (added["i2v_frames"], added["i2v_fps"]) == (6, 12.0)
        assert "i2v_image_tokens" not in added
    assert out[2]["samples"].shape == (6, 12, 8, 12)


def test_the_negative_branch_gets_the_null_image(node_classes: dict[str, Any], given_image: Any) -> None:
    tokens, null = torch.randn(1, 4, 2, 3), torch.randn(1, 4, 2, 3)
    given = type(given_image)(given_image.latent, tokens, null)
    positive, negative, _ = node_classes["I2VConditioning"].execute(conditioning(1), conditioning(2), given, 6).result
    assert positive[0][1]["i2v_image_tokens"] is tokens
    assert negative[0][1]["i2v_image_tokens"] is null
    assert "i2v_fps" not in positive[0][1]


def test_image_encoder_and_projection_go_together(node_classes: dict[str, Any], tiny: Any) -> None:
    with pytest.raises(ValueError, match="image_projection is missing"):
        node_classes["I2VEncodeImage"].execute(
            tiny.vae, torch.rand(1, 32, 32, 3), 32, 32, "crop", SimpleNamespace(encode_image=None)
        )
