"""The host's --fp8_e4m3fn-unet on the demo model: a quarter of the weights' bytes, nearly the same video."""

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

import dev
from tests.nodes.conftest import Inputs

DEMO = "i2v_demo.safetensors"


@pytest.fixture
def given(node_classes: dict[str, Any]) -> Callable[[Any, Any], Inputs]:
    """The demo's picture and prompt as the sampler's inputs, by CLIP and VAE."""
    import nodes as host_nodes

    def made(clip: Any, vae: Any) -> Inputs:
        with Image.open(dev.ROOT / "demo/images/chelsea.jpg") as picture:
            image = torch.from_numpy(numpy.array(picture.convert("RGB")))[None] / 255
        texts = [host_nodes.CLIPTextEncode().encode(clip, text)[0] for text in ("a cat, the camera zooms in", "")]
        encoded = node_classes["I2VEncodeImage"].execute(vae, image, 64, 64, "crop").result[0]
        return Inputs(*node_classes["I2VConditioning"].execute(*texts, encoded, 8).result)

    return made


def weights(model: Any) -> list[Tensor]:
    return list(model.model.diffusion_model.parameters())


def size(model: Any) -> int:
    return sum(weight.nbytes for weight in weights(model))


def test_eight_bit_weights_are_computed_with_in_full_and_make_nearly_the_same_video(
    monkeypatch: pytest.MonkeyPatch,
    core: Callable[[str], Any],
    host_module: Callable[[str], Any],
    node_classes: dict[str, Any],
    sample: Callable[..., Tensor],
    given: Callable[[Any, Any], Inputs],
) -> None:
    model, clip, vae, *_ = node_classes["I2VLoadCheckpoint"].execute(DEMO).result
    inputs = given(clip, vae)

    def frames(model: Any) -> Tensor:
        return vae.decode(sample(model, inputs, steps=8)).movedim(-1, -3) * 2 - 1

    expected = frames(model)
    for option in ("fp8_e4m3fn_unet", "fp8_e5m2_unet"):
        with monkeypatch.context() as patch:
            patch.setattr(host_module("comfy.cli_args").args, option, True)
            small = node_classes["I2VLoadCheckpoint"].execute(DEMO).result[0]
        assert {weight.itemsize for weight in weights(small)} == {1}
        assert size(small) * 4 == size(model)
        assert small.model.manual_cast_dtype == torch.float32
        assert core("metrics.pixels").psnr(expected, frames(small)).min() > 25, option
