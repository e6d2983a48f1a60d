"""Names of every dialect are names of one network: maps are bijections, also at full size."""

import pytest
import torch
from diffusers import UNet3DConditionModel

from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.weights import key_maps
from i2v_core.weights.foreign import linear_projections
from tests.core.weights.small import PUBLIC, SMALL, SMALL_IMAGE_MODEL


def names_of(config: VideoUNetConfig) -> list[str]:
    return list(VideoUNet(config, device="meta").state_dict())


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_network_has_the_reference_number_of_tensors_and_parameters(name: str) -> None:
    config, tensors, millions = PUBLIC[name]
    state = VideoUNet(config, device="meta").state_dict()
    assert len(state) == tensors
    assert sum(tensor.numel() for tensor in state.values()) / 1e6 == pytest.approx(millions, abs=0.006)


def test_modelscope_names_are_a_bijection_at_full_size() -> None:
    ours = names_of(VideoUNetConfig())
    theirs = [key_maps.to_modelscope(name) for name in ours]
    assert len(set(theirs)) == 1480
    assert [key_maps.from_modelscope(name) for name in theirs] == ours
    assert {"input_blocks.0.1.proj_in.weight", "input_blocks.3.op.weight"} <= set(theirs)
    assert not any(name.startswith("init_attn") or ".0.op." in name for name in theirs)


def test_diffusers_names_and_shapes_are_a_bijection_at_full_size() -> None:
    with torch.device("meta"):
        theirs = UNet3DConditionModel().state_dict()
    ours = VideoUNet(VideoUNetConfig(), device="meta").state_dict()
    layout = key_maps.diffusers_layout(theirs)
    assert layout == key_maps.layout_of(VideoUNetConfig())
    mapped = {key_maps.from_diffusers(name, layout): tensor.shape for name, tensor in theirs.items()}
    assert len(mapped) == 1480
    assert mapped == {name: tensor.shape for name, tensor in ours.items()}
    assert {key_maps.to_diffusers(name, layout) for name in ours} == set(theirs)


@pytest.mark.parametrize("config", [SMALL, SMALL_IMAGE_MODEL])
def test_diffusers_names_are_a_bijection_for_other_layouts(config: VideoUNetConfig) -> None:
    layout, ours = key_maps.layout_of(config), names_of(config)
    theirs = [key_maps.to_diffusers(name, layout) for name in ours]
    assert len(set(theirs)) == len(ours)
    assert key_maps.diffusers_layout(theirs) == layout
    assert [key_maps.from_diffusers(name, layout) for name in theirs] == ours


def test_stable_diffusion_names_are_the_spatial_ones_of_the_inflated_network() -> None:
    image, clip = names_of(PUBLIC["stable_diffusion_2_1_base"][0]), names_of(VideoUNetConfig())
    inflated = [key_maps.ldm_to_temporal(name) for name in image]
    assert len(set(inflated)) == len(image)
    assert set(inflated) < set(clip)
    assert [key_maps.temporal_to_ldm(name) for name in inflated] == image


def test_only_the_rate_embedding_of_dynamicrafter_256_is_renamed() -> None:
    assert key_maps.from_lvdm("framestride_embed.2.bias") == "fps_embedding.2.bias"
    names = names_of(PUBLIC["dynamicrafter_512"][0])
    assert [key_maps.from_lvdm(name) for name in names] == names


def test_a_name_unknown_to_diffusers_stays_as_it_is() -> None:
    layout = key_maps.layout_of(SMALL)
    assert key_maps.from_diffusers("surprise.weight", layout) == "surprise.weight"


def test_only_projections_lose_axes_of_length_one() -> None:
    shapes = {
        "input_blocks.1.1.proj_in.weight": (8, 8, 1, 1),
        "init_attn.0.proj_out.weight": (8, 16, 1),
        "input_blocks.4.0.skip_connection.weight": (8, 4, 1, 1),
    }
    flat = linear_projections({name: torch.zeros(shape) for name, shape in shapes.items()})
    assert [tuple(tensor.shape) for tensor in flat.values()] == [(8, 8), (8, 16), (8, 4, 1, 1)]
