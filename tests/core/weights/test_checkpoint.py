"""What is written is what is read back, in both dialects, and a failed writing harms nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from i2v_core import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from i2v_core.model.autoencoder import AutoencoderConfig
from i2v_core.model.image_projection import ImageProjection, ImageProjectionConfig
from i2v_core.model.text_encoder import TextEncoder, TextEncoderConfig
from i2v_core.model.video_unet import VideoUNet
from i2v_core.presets import PRESETS
from i2v_core.weights import read_checkpoint
from i2v_core.weights.contents import build_autoencoder
from tests.core.weights.small import SMALL, SMALL_DYNAMICRAFTER, SMALL_IMAGE_MODEL, seed

OWN_PRESET = replace(PRESETS["demo"], name="mine", steps=7, schedule=replace(PRESETS["demo"].schedule, beta_end=0.02))


def whole() -> Checkpoint:
    """Every part that a checkpoint can have, in small."""
    return Checkpoint(
        unet=seed(VideoUNet(replace(SMALL_DYNAMICRAFTER, pooled_text_dim=64))),
        image_projection=seed(ImageProjection(ImageProjectionConfig(features=32, depth=1, heads=1, image_features=48))),
        autoencoder=seed(build_autoencoder(AutoencoderConfig(channels=32, channel_mult=(1, 1), num_res_blocks=1))),
        text_encoder=seed(TextEncoder(TextEncoderConfig())),
        preset=OWN_PRESET,
        dialect="i2v",
        metadata={"i2v.train_steps": "12"},
    )


PARTS = ("unet", "image_projection", "autoencoder", "text_encoder")


@pytest.mark.parametrize("dialect", ["i2v", "lvdm"])
def test_every_part_comes_back_exactly(dialect: str, tmp_path: Path) -> None:
    saved, path = whole(), tmp_path / "model.safetensors"
    save_checkpoint(path, saved, dialect=dialect)
    loaded = load_checkpoint(path)
    for part in PARTS:
        before, after = getattr(saved, part), getattr(loaded, part)
        assert after.config == before.config
        assert not after.training
        state = after.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in before.state_dict().items())
    assert (loaded.preset, loaded.dialect) == (OWN_PRESET, dialect)
    assert loaded.metadata["i2v.train_steps"] == "12"


def test_a_preset_that_is_named_takes_the_place_of_the_file_s_own(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.safetensors", whole())
    assert read_checkpoint(tmp_path / "model.safetensors").preset == OWN_PRESET
    named = read_checkpoint(tmp_path / "model.safetensors", preset="dynamicrafter_512_interp")
    assert named.preset == PRESETS["dynamicrafter_512_interp"]


def test_a_checkpoint_may_be_a_network_alone(tmp_path: Path) -> None:
    alone = Checkpoint(seed(VideoUNet(SMALL)), None, None, None, PRESETS["modelscope"], "i2v", {})
    save_checkpoint(tmp_path / "unet.safetensors", alone)
    loaded = load_checkpoint(tmp_path / "unet.safetensors")
    assert loaded.unet.config == SMALL
    assert (loaded.image_projection, loaded.autoencoder, loaded.text_encoder) == (None, None, None)


def test_weights_are_written_and_built_in_the_asked_precision(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_checkpoint(path, whole(), dtype=torch.float16)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    for dtype, expected in ((None, torch.float32), (torch.bfloat16, torch.bfloat16)):
        loaded = load_checkpoint(path, dtype=dtype)
        assert loaded.unet.dtype == expected
        for part in PARTS:
            assert {parameter.dtype for parameter in getattr(loaded, part).parameters()} == {expected}


def test_the_header_says_what_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, whole(), metadata={"modelspec.title": "My model", "i2v.kind": "nonsense"})
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert header["i2v.kind"] == "checkpoint"
    assert header["i2v.format"] == "1"
    assert header["modelspec.title"] == "My model"
    assert header["modelspec.license"] == "Apache-2.0"
    assert set(json.loads(header["i2v.config"])) == {*PARTS, "preset"}
    assert all(isinstance(value, str) for value in header.values())


def test_what_is_written_for_lvdm_is_recognized_without_our_header(tmp_path: Path) -> None:
    contents = replace(
        read_checkpoint(written(tmp_path)),
        preset=PRESETS["dynamicrafter_1024"],
        text_encoder=None,
        text_encoder_config=None,
    )
    save_checkpoint(tmp_path / "lvdm.safetensors", contents, dialect="lvdm")
    tensors = load_file(tmp_path / "lvdm.safetensors")
    assert tensors["model.diffusion_model.init_attn.0.proj_in.weight"].shape == (256, 32, 1)
    save_file(tensors, tmp_path / "bare.safetensors")

    foreign = read_checkpoint(tmp_path / "bare.safetensors")
    assert (foreign.dialect, foreign.preset.name) == ("lvdm", "dynamicrafter_1024")
    assert foreign.unet_config == replace(contents.unet_config, default_fps=10)
    assert foreign.image_projection_config == contents.image_projection_config
    assert foreign.autoencoder_config == contents.autoencoder_config
    assert all(torch.equal(tensor, foreign.unet[name]) for name, tensor in contents.unet.items())


def written(folder: Path) -> Path:
    save_checkpoint(folder / "model.safetensors", whole())
    return folder / "model.safetensors"


def test_stable_diffusion_1_5_keeps_its_convolutions_and_towers(tmp_path: Path) -> None:
    unet = seed(VideoUNet(replace(SMALL_IMAGE_MODEL, num_heads=8, context_dim=768)))
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in unet.state_dict().items()}
    tower = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
    save_file(state | {tower: torch.ones(768)}, tmp_path / "sd.safetensors")
    save_checkpoint(tmp_path / "out.safetensors", read_checkpoint(tmp_path / "sd.safetensors"), dialect="lvdm")
    tensors = load_file(tmp_path / "out.safetensors")
    assert tensors["model.diffusion_model.input_blocks.1.1.proj_in.weight"].shape == (32, 32, 1, 1)
    assert torch.equal(tensors[tower], torch.ones(768))
    assert read_checkpoint(tmp_path / "out.safetensors").preset.name == "stable_diffusion_1_5"


def test_a_loaded_network_does_not_hold_on_to_its_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    loaded = load_checkpoint(path)
    before = loaded.unet.out[-1].weight.clone()
    with path.open("r+b") as file:
        file.truncate(0)
    assert torch.equal(loaded.unet.out[-1].weight, before)


def test_a_checkpoint_replaces_its_own_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    loaded = load_checkpoint(path)
    save_checkpoint(path, replace(loaded, preset=replace(loaded.preset, steps=3)))
    assert load_checkpoint(path).preset.steps == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_writing_leaves_the_former_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = path.read_bytes()
    contents = read_checkpoint(path)
    broken = replace(contents, unet={**contents.unet, "x": torch.ones(3).to_sparse()})
    with pytest.raises(RuntimeError, match="Contiguous"):
        save_checkpoint(path, broken)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save_checkpoint(tmp_path / "nowhere" / "model.safetensors", whole())


def rewritten(folder: Path, **header: str) -> Path:
    """A good file with another header."""
    path = written(folder)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, metadata | {f"i2v.{name}": value for name, value in header.items()})
    return path


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({"kind": "look_back"}, r"an adapter of this pack \(look_back\)"),
        ({"format": "2"}, "has format 2 and this version reads 1; update"),
        ({"config": "{"}, "'i2v.config' is no valid JSON"),
        ({"config": "[" * 100_000}, "'i2v.config' is nested more than 64 deep"),
        ({"config": "{}"}, "Preset should be a table"),
        ({"config": '{"preset": {"name": "x"}}'}, "Preset lacks"),
        ({"config": '{"preset": 3}'}, "Preset should be a table"),
    ],
)
def test_a_header_that_cannot_be_followed_is_refused(header: dict[str, str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"Cannot load 'model.safetensors': .*{sentence}"):
        load_checkpoint(rewritten(tmp_path, **header))


@pytest.mark.parametrize(
    ("entry", "value", "sentence"),
    [
        ("head_dim", "64", "VideoUNetConfig.head_dim should be a whole number, got '64'"),
        ("image_gate", "ajar", "VideoUNetConfig.image_gate should be .* got 'ajar'"),
        ("surprise", 1, "no key 'VideoUNetConfig.surprise'; .* A newer version wrote it"),
        ("model_channels", 33, "no unet can be built"),
        ("num_res_blocks", 2, "weights are missing"),
    ],
)
def test_a_configuration_that_cannot_be_followed_is_refused(
    entry: str, value: object, sentence: str, tmp_path: Path
) -> None:
    with safe_open(written(tmp_path), "pt") as file:
        config = json.loads(file.metadata()["i2v.config"])
    config["unet"][entry] = value
    with pytest.raises(CheckpointError, match=sentence):
        read_checkpoint(rewritten(tmp_path, config=json.dumps(config)))
