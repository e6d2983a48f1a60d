"""Small networks with seeded weights, and the configurations of the public ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from i2v_core.model.video_unet import VideoUNetConfig
from i2v_core.weights.key_maps import to_modelscope
from tests.parity.seeded import seeded_weight

M = TypeVar("M", bound=nn.Module)

SMALL = VideoUNetConfig(
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_levels=(0, 1),
    head_dim=32,
    context_dim=64,
)
SMALL_DYNAMICRAFTER = replace(SMALL, in_channels=8, image_gate="fixed", fps_embedding=True)
SMALL_IMAGE_MODEL = replace(
    SMALL,
    channel_mult=(1, 2, 2, 2),
    attention_levels=(0, 1, 2),
    num_res_blocks=2,
    head_dim=64,
    temporal_convolution=False,
    temporal_attention=False,
    init_attention=False,
)

_DYNAMICRAFTER = VideoUNetConfig(in_channels=8, image_gate="fixed", fps_embedding=True)
_VIDEOCRAFTER2 = VideoUNetConfig(fps_embedding=True, default_fps=16)
_VIDEOCRAFTER1 = replace(_VIDEOCRAFTER2, temporal_convolution=False, relative_position=16)
_STABLE_DIFFUSION = VideoUNetConfig(temporal_convolution=False, temporal_attention=False, init_attention=False)

# Configuration, number of tensors, millions of parameters; counted on the reference classes.
PUBLIC: dict[str, tuple[VideoUNetConfig, int, float]] = {
    "dynamicrafter_256": (replace(_DYNAMICRAFTER, image_gate="learned", default_fps=3), 1532, 1438.85),
    "dynamicrafter_512": (_DYNAMICRAFTER, 1516, 1438.85),
    "dynamicrafter_1024": (replace(_DYNAMICRAFTER, default_fps=10), 1516, 1438.85),
    "videocrafter2": (_VIDEOCRAFTER2, 1484, 1413.28),
    "videocrafter1_1024": (_VIDEOCRAFTER1, 1200, 1146.54),
    "videocrafter1_512": (replace(_VIDEOCRAFTER1, fps_embedding=False), 1196, 1144.49),
    "videocrafter1_i2v_512": (
        replace(_VIDEOCRAFTER2, image_gate="fixed", image_token_layout="shared"),
        1516,
        1438.84,
    ),
    "modelscope": (VideoUNetConfig(), 1480, 1411.23),
    "stable_diffusion_2_1_base": (_STABLE_DIFFUSION, 686, 865.91),
    "stable_diffusion_1_5": (replace(_STABLE_DIFFUSION, num_heads=8, context_dim=768), 686, 859.52),
}


@torch.no_grad()
def seed(module: M) -> M:
    """Give every parameter, also those that start at zero, a value that depends on its name and shape."""
    for name, parameter in module.named_parameters():
        parameter.copy_(seeded_weight(name, parameter.shape))
    return module.eval()


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy under a prefix, as files have it."""
    return {prefix + name: tensor.clone() for name, tensor in tensors.items()}


def modelscope_state(unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under ModelScope's names, the projections of layers over time as Conv1d."""
    state = {}
    for name, tensor in unet.items():
        temporal = name.startswith(("init_attn.", "middle_block.2.")) or ".2.proj" in name
        convolution = temporal and name.endswith((".proj_in.weight", ".proj_out.weight"))
        state[to_modelscope(name)] = tensor[..., None].clone() if convolution else tensor.clone()
    return state


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference of two tensors of one shape."""
    assert a.shape == b.shape
    return (a - b).abs().max().item()
