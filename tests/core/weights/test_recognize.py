"""Every public model is known by its names and shapes alone."""

from dataclasses import replace

import pytest
import torch

from i2v_core.model.autoencoder import AutoencoderConfig
from i2v_core.model.image_projection import ImageProjection, ImageProjectionConfig
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from i2v_core.weights import CheckpointError
from i2v_core.weights.contents import build_autoencoder
from i2v_core.weights.key_maps import layout_of, to_diffusers, to_modelscope
from i2v_core.weights.recognize import (
    V_PREDICTION_BIAS,
    dialect_of,
    recognize_autoencoder,
    recognize_image_projection,
    recognize_preset,
    recognize_unet,
    with_default_fps,
)
from tests.core.weights.small import PUBLIC, SMALL


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_model_is_recognized_with_its_preset(name: str) -> None:
    config, _, _ = PUBLIC[name]
    state = VideoUNet(config, device="meta").state_dict()
    # The one value that is looked at: small means a model of eps.
    state[V_PREDICTION_BIAS] = torch.zeros(320)
    scale_table = torch.tensor([1.0, 0.3]).half() if name == "dynamicrafter_1024" else None
    recognized = recognize_unet(state)
    preset = recognize_preset(recognized, state, scale_table, video_decoder=False)
    assert preset.name == name
    assert with_default_fps(recognized, preset) == config


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, model_channels=64, head_dim=16, num_res_blocks=2, channel_mult=(1, 1, 3)),
        replace(SMALL, attention_levels=(1,), pooled_text_dim=48),
        replace(SMALL, attention_levels=(), temporal_convolution=False, relative_position=5),
    ],
)
def test_other_sizes_are_recognized(config: VideoUNetConfig) -> None:
    assert recognize_unet(VideoUNet(config, device="meta").state_dict()) == config


def test_dialects_are_told_apart_by_names() -> None:
    video = list(VideoUNet(VideoUNetConfig(), device="meta").state_dict())
    layout = layout_of(VideoUNetConfig())
    assert dialect_of(video) == "lvdm"
    assert dialect_of(map(to_modelscope, video)) == "modelscope"
    assert dialect_of(to_diffusers(name, layout) for name in video) == "diffusers"
    assert dialect_of(VideoUNet(PUBLIC["stable_diffusion_1_5"][0], device="meta").state_dict()) == "ldm"
    assert dialect_of(["encoder.conv_in.weight"]) is None


def test_stable_diffusion_2_1_trained_on_v_is_told_by_one_bias() -> None:
    config = PUBLIC["stable_diffusion_2_1_base"][0]
    wide = {V_PREDICTION_BIAS: torch.linspace(-1, 1, 320)}
    assert recognize_preset(config, wide, None, False).prediction == "v"
    assert recognize_preset(config, {}, None, False).prediction == "eps"


def test_tooncrafter_is_told_by_its_decoder() -> None:
    config = PUBLIC["dynamicrafter_512"][0]
    assert recognize_preset(config, {}, torch.tensor([0.7]), video_decoder=True).name == "tooncrafter"


def test_a_model_for_inpainting_is_refused() -> None:
    config = replace(PUBLIC["stable_diffusion_1_5"][0], in_channels=9)
    with pytest.raises(CheckpointError, match="9 input channels"):
        recognize_preset(config, {}, None, False)


def test_an_unknown_video_model_asks_for_a_preset() -> None:
    with pytest.raises(CheckpointError, match="name the preset"):
        recognize_preset(replace(SMALL, in_channels=5), {}, None, False)


@pytest.mark.parametrize(
    "config",
    [
        ImageProjectionConfig(),
        ImageProjectionConfig(frames=None),
        ImageProjectionConfig(features=64, heads=2, depth=1),
    ],
)
def test_image_projections_are_recognized(config: ImageProjectionConfig) -> None:
    assert recognize_image_projection(ImageProjection(config, device="meta").state_dict()) == config


@pytest.mark.parametrize(
    "config", [AutoencoderConfig(), AutoencoderConfig(channels=32, channel_mult=(1, 2), latent_channels=8)]
)
def test_autoencoders_are_recognized(config: AutoencoderConfig) -> None:
    assert recognize_autoencoder(build_autoencoder(config, device="meta").state_dict()) == config
