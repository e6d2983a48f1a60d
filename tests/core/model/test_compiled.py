"""Compiled blocks: whole graphs for the whole family, equal to eager ones, and no step that waits for the device."""

import os
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from i2v_core.model.compiled import compile_blocks
from i2v_core.model.image_injection import ImageInjection, ImageInjectionConfig
from i2v_core.model.seams import Seams
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from tests.core.weights.small import SMALL, SMALL_DYNAMICRAFTER, largest_difference, seed
from tests.parity.seeded import seeded_normal

COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
DEMO = replace(SMALL, in_channels=24, out_channels=12, attention_levels=(1,), init_attention=False, pooled_text_dim=64)
FAMILY = {
    "demo": DEMO,
    "modelscope": SMALL,
    "dynamicrafter": SMALL_DYNAMICRAFTER,
    "videocrafter1_i2v": replace(
        SMALL_DYNAMICRAFTER,
        image_gate="learned",
        image_token_layout="shared",
        relative_position=16,
        temporal_convolution=False,
    ),
    "stable_diffusion": replace(SMALL, temporal_convolution=False, temporal_attention=False, init_attention=False),
}


def one_level(config: VideoUNetConfig) -> VideoUNetConfig:
    return replace(config, channel_mult=(1,), attention_levels=(0,))


def inputs(config: VideoUNetConfig, device: str = "cpu", size: int = 16) -> dict[str, Any]:
    """Two clips of three frames."""
    made = {
        "x": seeded_normal("x", (2, config.in_channels, 3, size, size)),
        "timesteps": torch.tensor([801.0, 3.0]),
        "text": seeded_normal("text", (2, 7, config.context_dim)),
    }
    if config.image_gate != "none":
        shape = (2, 5) if config.image_token_layout == "shared" else (2, 3, 5)
        made["image_tokens"] = seeded_normal("image", (*shape, config.context_dim))
    if config.fps_embedding:
        made["fps"] = torch.tensor([24, 8])
    if config.pooled_text_dim:
        made["pooled_text"] = seeded_normal("pooled", (2, config.pooled_text_dim))
    return {name: tensor.to(device) for name, tensor in made.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
@torch.inference_mode()
def test_every_block_is_one_graph_and_answers_as_before(compiling: Any, name: str) -> None:
    # Those with image attention have all levels, the others one, because every block takes a second to compile.
    config = FAMILY[name] if FAMILY[name].image_gate != "none" else one_level(FAMILY[name])
    unet, given = seed(VideoUNet(config)), inputs(config)
    expected, names = unet(**given), list(unet.state_dict())
    compile_blocks(unet, backend="eager", fullgraph=True)
    assert largest_difference(unet(**given), expected) < 1e-5
    assert list(unet.state_dict()) == names
    compiled = compiling["stats"]["unique_graphs"]
    assert compiled == len([*unet.input_blocks, *unet.output_blocks]) + 1 + config.init_attention
    unet(**given)
    assert compiling["stats"]["unique_graphs"] == compiled, "the next step compiles nothing"


@pytest.mark.slow
@torch.inference_mode()
def test_another_shape_and_an_adapter_s_image_streams_are_one_graph_too(compiling: Any) -> None:
    config = one_level(SMALL)
    unet, given, larger = seed(VideoUNet(config)), inputs(config), inputs(config, size=24)
    sites = {
        name.removesuffix(".to_q"): layer.out_features for name, layer in unet.named_modules() if "attn2.to_q" in name
    }
    spatial = {site: width for site, width in sites.items() if hasattr(unet.get_submodule(site), "site")}
    streams = seed(ImageInjection(ImageInjectionConfig(sites=spatial, context_dim=config.context_dim))).streams
    added = {
        "seams": Seams(image_streams=streams),
        "image_tokens": seeded_normal("image", (2, 3, 5, config.context_dim)),
    }
    expected = unet(**larger), unet(**given, **added)
    compile_blocks(unet, backend="eager", fullgraph=True)
    assert largest_difference(unet(**larger), expected[0]) < 1e-5
    assert largest_difference(unet(**given, **added), expected[1]) < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="compiling for a CPU needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of the compiler's own modules
@torch.inference_mode()
def test_the_default_compiler_answers_as_eager_mode_does(compiling: Any) -> None:
    """On one block with a residual and an attention layer, because every kernel is a file of C++: two seconds each."""
    config = replace(one_level(FAMILY["stable_diffusion"]), num_res_blocks=0)
    unet, called = seed(VideoUNet(config)), []
    block = unet.output_blocks[0]
    block.register_forward_hook(lambda _, given, made: called.append((given, made)))
    unet(**inputs(config))
    ((given, expected),) = called
    compile_blocks(unet, fullgraph=True)
    assert largest_difference(block(*given), expected) < 1e-4
    assert compiling["stats"]["unique_graphs"] == 1


class OneDevice(TorchDispatchMode):
    """Refuses every tensor in main memory, whose way to the device a CUDA graph cannot hold."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, made)):
            assert not isinstance(leaf, torch.Tensor) or leaf.is_meta, function
        return made


@pytest.mark.parametrize("name", FAMILY)
@torch.inference_mode()
def test_no_step_waits_for_the_device(name: str) -> None:
    """On tensors without values, whatever Python asks of one is an error: so a CUDA graph can hold the step."""
    config = FAMILY[name]
    unet = VideoUNet(config, device="meta").eval()
    given = inputs(config, "meta")
    with OneDevice():
        assert unet(**given).shape == (2, config.out_channels, 3, 16, 16)
        with pytest.raises(AssertionError, match="lift_fresh"):
            torch.tensor([1.0])
    with pytest.raises(RuntimeError, match="meta"):
        given["x"].sum().item()
