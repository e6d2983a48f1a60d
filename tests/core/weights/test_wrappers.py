"""Whatever a trainer, a compiler or a splitting library put around a model, the same networks are read from it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from i2v_core import CheckpointError
from i2v_core.model.video_unet import VideoUNet
from i2v_core.weights import read_checkpoint
from i2v_core.weights.foreign import unet_words
from i2v_core.weights.key_maps import from_mangled
from tests.core.weights.small import PUBLIC, SMALL, SMALL_DYNAMICRAFTER, prefixed, seed

State = dict[str, Tensor]
UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def unet() -> State:
    """A U-Net with temporal layers, an image gate and a rate embedding, by its bare names."""
    return dict(seed(VideoUNet(SMALL_DYNAMICRAFTER)).state_dict())


def same(read: State, unet: State) -> bool:
    return read.keys() == unet.keys() and all(torch.equal(read[name], unet[name]) for name in unet)


def zeros(state: State) -> State:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def mangled(state: State) -> State:
    """As LDM's `LitEma` names its buffers."""
    names = {f"model_ema.diffusion_model{name.replace('.', '')}": tensor for name, tensor in state.items()}
    return names | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}


MAPPINGS: dict[str, Callable[[State], dict[str, Any]]] = {
    "model": lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "step": 3},
    "ema": lambda state: {"ema": state},
    "average before current": lambda state: {"model": zeros(state), "ema": state},
    "average of a few only": lambda state: {"state_dict": state, "ema": {"decay": torch.ones(())}},
    "state_dict_ema": lambda state: {"state_dict": zeros(state), "state_dict_ema": state},
    "twice": lambda state: {"checkpoint": {"model_state_dict": state}},
    "unknown": lambda state: {"epoch": 3, "my_network": state, "lr_scheduler": {"x": torch.ones(1)}},
    "module": lambda state: {"module": prefixed("_forward_module.", state)},
}


@pytest.mark.parametrize("kind", MAPPINGS)
def test_mappings_around_the_tensors_are_taken_off(kind: str, unet: State, tmp_path: Path) -> None:
    torch.save(MAPPINGS[kind](prefixed(UNET, unet)), tmp_path / "model.ckpt")
    assert same(read_checkpoint(tmp_path / "model.ckpt").unet, unet)


NAMES: dict[str, Callable[[State], State]] = {
    "compiled": lambda state: prefixed(f"_orig_mod.{UNET}", state),
    "compiled inside": lambda state: prefixed(f"{UNET}_orig_mod.", state),
    "distributed": lambda state: prefixed(f"module.{UNET}", state),
    "compiled and distributed": lambda state: prefixed("module._orig_mod.", state),
    "sharded": lambda state: prefixed(f"_fsdp_wrapped_module.{UNET}", state),
    "a trainer's module": lambda state: prefixed("lightning.model.diffusion_model.", state),
    "another name": lambda state: prefixed("net.", state) | {"vae.encoder.conv_in.weight": torch.ones(2)},
    "average only": lambda state: prefixed("model_ema.diffusion_model.", state),
    "ema_pytorch": lambda state: prefixed("online_model.", zeros(state)) | prefixed("ema_model.", state),
    "mangled average": mangled,
    "average beside the model": lambda state: prefixed(UNET, state) | mangled(zeros(state)),
}


@pytest.mark.parametrize("kind", NAMES)
def test_components_in_names_are_taken_off(kind: str, unet: State, tmp_path: Path) -> None:
    save_file(NAMES[kind](unet), tmp_path / "model.safetensors")
    assert same(read_checkpoint(tmp_path / "model.safetensors").unet, unet)


@pytest.mark.parametrize("name", ["dynamicrafter_256", "videocrafter1_1024", "stable_diffusion_2_1_base"])
def test_every_public_name_survives_the_loss_of_its_dots(name: str) -> None:
    names = list(VideoUNet(PUBLIC[name][0], device="meta").state_dict())
    assert [from_mangled(each.replace(".", ""), unet_words()) for each in names] == names
    assert from_mangled("something_else0", unet_words()) == "something_else0"


def test_several_models_of_unknown_names_are_listed(unet: State, tmp_path: Path) -> None:
    torch.save({"teacher": unet, "student": unet}, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"it holds 2 sets of tensors \('teacher', 'student'\)"):
        read_checkpoint(tmp_path / "model.ckpt")


def split(folder: Path, state: State, suffix: str = ".safetensors") -> tuple[Path, list[Path]]:
    """Write a model in three parts; the index and the parts."""
    names, paths, places = sorted(state), [], {}
    for number in range(3):
        paths.append(folder / f"diffusion_pytorch_model-{number + 1:05}-of-00003{suffix}")
        part = {name: state[name] for name in names[number::3]}
        save_file(part, paths[-1]) if suffix == ".safetensors" else torch.save(part, paths[-1])
        places |= dict.fromkeys(part, paths[-1].name)
    index = folder / f"diffusion_pytorch_model{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index, paths


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_split_model_is_read_by_its_index_any_part_or_its_folder(suffix: str, unet: State, tmp_path: Path) -> None:
    index, parts = split(tmp_path, unet, suffix)
    for given in (index, parts[1], tmp_path):
        assert same(read_checkpoint(given).unet, unet)
    assert read_checkpoint(index, described=True).unet.keys() == unet.keys()


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    return str(caught.value)


def test_what_is_wrong_with_the_parts_is_said_by_name(unet: State, tmp_path: Path) -> None:
    index, parts = split(tmp_path, unet)
    parts[2].write_bytes(parts[2].read_bytes()[:-4])
    assert f"of its part '{parts[2].name}': it is truncated" in refusal(parts[0])
    parts[2].unlink()
    assert re.search(
        rf"part 1 of 3 of a split model, and one of them is missing .*'{parts[2].name}'", refusal(parts[0])
    )
    assert re.search(rf"index of a model split over 3 files, and one .*'{parts[2].name}'", refusal(index))
    save_file({"another": torch.ones(2)}, parts[2])
    assert "its parts lack" in refusal(index)


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/passwd", "C:\\x.safetensors", "a\\..\\..\\x"])
def test_an_index_names_files_of_its_folder_only(place: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": place}}))
    assert "lies outside of the folder of the index" in refusal(index)


@pytest.mark.parametrize("content", ["{}", "[]", '{"weight_map": {"a": 3}}', "no json"])
def test_another_json_file_is_no_model(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    assert re.search("no index of a split model|no valid JSON", refusal(tmp_path / "config.json"))


def test_a_small_network_of_bare_names_stays_as_it_is(tmp_path: Path) -> None:
    state = dict(seed(VideoUNet(SMALL)).state_dict())
    save_file(state, tmp_path / "model.safetensors")
    assert same(read_checkpoint(tmp_path / "model.safetensors").unet, state)
