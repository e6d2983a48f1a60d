"""Whatever cannot be loaded is refused with one sentence that names the file and the reason."""

import json
import os
import pickle
import re
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from i2v_core import CheckpointError, load_checkpoint
from i2v_core.model.video_unet import VideoUNet
from i2v_core.presets import PRESETS
from i2v_core.weights import files, load_adapter
from tests.core.weights.small import SMALL, SMALL_IMAGE_MODEL, prefixed, seed

UNET = "model.diffusion_model."


class Surprise:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def good() -> dict[str, Tensor]:
    return prefixed(UNET, seed(VideoUNet(SMALL)).state_dict())


def refusal(path: Path) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"Cannot load '{path.name}': ")
    assert "\n" not in sentence
    return sentence


def refused_tensors(folder: Path, tensors: dict[str, Tensor]) -> str:
    save_file(tensors, folder / "model.safetensors")
    return refusal(folder / "model.safetensors")


def named(*names: str) -> dict[str, Tensor]:
    return {name: torch.zeros(4, 4) for name in names}


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".bin", ".pth"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>Please log in</html>", "no weights file at all"),
        (b"A text.", "no weights file at all"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        (b"PK\x03\x04 and no more", "truncated or damaged"),
        (b"\x80\x02 and no more", "damaged"),
    ],
)
def test_what_is_no_weights_file_is_refused(content: bytes, reason: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    assert reason in refusal(path)


@pytest.mark.parametrize("kept", [4, 100, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_truncated_file_is_refused(good: dict[str, Tensor], suffix: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".ckpt":
        torch.save(good, path)
    else:
        save_file(good, path)
    size = path.stat().st_size
    os.truncate(path, int(size * kept) if kept < 1 else int(kept))
    assert "truncated" in refusal(path) or "damaged" in refusal(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_never_executes_what_it_carries(zipped: bool, tmp_path: Path) -> None:
    path, witness = tmp_path / "model.ckpt", tmp_path / "executed"
    content = {"state_dict": named("a"), "callback": Surprise(witness)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    assert "execute code" in refusal(path)
    assert not witness.exists()


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    assert "a list instead of named tensors" in refusal(tmp_path / "list.pt")
    torch.save({"modules": {}, "average": {}, "optimizer": {}, "step": 3}, tmp_path / "state.pt")
    assert "saved state of a training run" in refusal(tmp_path / "state.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    assert "it holds no tensors" in refusal(tmp_path / "empty.pt")


def test_a_folder_needs_weights(tmp_path: Path) -> None:
    assert "it is a folder without" in refusal(tmp_path)
    (tmp_path / "diffusion_pytorch_model-00001-of-00002.safetensors").touch()
    assert re.search("is missing in its folder: 'diffusion.*-00002-of-00002.safetensors'", refusal(tmp_path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights file '.*nowhere\.safetensors'"):
        load_checkpoint(tmp_path / "nowhere.safetensors")


LDM_SPATIAL = "input_blocks.4.1.transformer_blocks"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight"], "a LoRA"),
        (["unet.down_blocks.0.attentions.0.proj_in.lora_A.weight"], "a LoRA"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "a VAE"),
        (["first_stage_model.decoder.conv_in.weight"], "a VAE"),
        (["text_model.embeddings.token_embedding.weight"], "a text encoder"),
        (["vision_model.embeddings.class_embedding"], "an image encoder"),
        (["conditioner.embedders.0.transformer.x", f"{UNET}{LDM_SPATIAL}.1.norm1.weight"], "SDXL"),
        (["down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q.weight", "conv_in.weight"], "SDXL"),
        (["control_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["input_hint_block.0.weight", "input_blocks.0.0.weight"], "a ControlNet"),
        (["controlnet_cond_embedding.conv_in.weight", "conv_in.weight", "down_blocks.0.x"], "a ControlNet"),
        (["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"], "an AnimateDiff"),
        ([f"{UNET}input_blocks.1.1.time_stack.0.norm1.weight"], "Stable Video Diffusion"),
        (["double_blocks.0.img_attn.proj.weight"], "a diffusion transformer"),
        (["blocks.0.self_attn.q.weight", "patch_embedding.weight"], "a diffusion transformer"),
        (["image_latents_proj_in.0.weight", "conv_in.weight", "down_blocks.0.x"], "I2VGen-XL"),
        (["latents", "proj_in.weight"], "an image projection without its U-Net"),
    ],
)
def test_another_model_is_called_by_its_name(names: list[str], kind: str, tmp_path: Path) -> None:
    assert f"it looks like {kind}" in refused_tensors(tmp_path, named(*names))


def test_something_unknown_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    assert "its 2 tensors start with 'a'" in refused_tensors(tmp_path, named("a", "b"))


def test_missing_and_unexpected_weights_are_named_and_counted(good: dict[str, Tensor], tmp_path: Path) -> None:
    missing = [f"{UNET}out.0.bias", f"{UNET}input_blocks.1.1.norm.weight", f"{UNET}time_embed.0.bias"]
    tensors = {name: tensor for name, tensor in good.items() if name not in missing}
    sentence = refused_tensors(tmp_path, tensors | named(f"{UNET}surprise.weight"))
    for name in missing:
        assert f"'{name.removeprefix(UNET)}'" in sentence
    assert "3 weights are missing" in sentence
    assert "1 weights are unexpected: 'surprise.weight'" in sentence


@pytest.mark.parametrize("name", ["input_blocks.0.0.weight", "out.2.weight", "init_attn.0.proj_in.weight"])
def test_a_weight_that_decides_the_architecture_is_named_if_missing(
    good: dict[str, Tensor], name: str, tmp_path: Path
) -> None:
    tensors = {key: tensor for key, tensor in good.items() if key != UNET + name}
    assert f"'{name}'" in refused_tensors(tmp_path, tensors)


def test_long_lists_of_names_are_cut(good: dict[str, Tensor], tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in good.items() if "transformer_blocks.0.ff" not in name}
    sentence = refused_tensors(tmp_path, tensors)
    assert "and " in sentence and " more" in sentence
    assert len(sentence) < 400


def test_a_wrong_shape_is_named_with_both_shapes(good: dict[str, Tensor], tmp_path: Path) -> None:
    tensors = good | {f"{UNET}time_embed.2.bias": torch.zeros(7)}
    assert "first 'time_embed.2.bias': expected (128,), got (7,)" in refused_tensors(tmp_path, tensors)


def test_quantized_weights_are_refused(good: dict[str, Tensor], tmp_path: Path) -> None:
    name = f"{UNET}out.2.weight"
    tensors = good | {name: good[name].to(torch.int8)}
    assert "no floating-point numbers: 'out.2.weight'" in refused_tensors(tmp_path, tensors)


def test_an_inpainting_model_is_refused(tmp_path: Path) -> None:
    state = prefixed(UNET, seed(VideoUNet(SMALL_IMAGE_MODEL)).state_dict())
    state[f"{UNET}input_blocks.0.0.weight"] = torch.zeros(32, 9, 3, 3)
    assert "9 input channels" in refused_tensors(tmp_path, state)


def test_a_broken_autoencoder_is_named(good: dict[str, Tensor], tmp_path: Path) -> None:
    tensors = good | named("first_stage_model.encoder.conv_in.weight")
    assert "lacks 'post_quant_conv.weight'" in refused_tensors(tmp_path, tensors)


def raw_safetensors(path: Path, header: str | bytes, data: bytes = b"") -> Path:
    content = header.encode() if isinstance(header, str) else header
    path.write_bytes(len(content).to_bytes(8, "little") + content + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a":{"dtype":"F32","shape":[' + "9" * 5000 + '],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[9223372036854775808,0],"data_offsets":[0,0]}}',
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,4]}}',
        '{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}',
    ],
    ids=["deep list", "deep object", "5000 digits", "beyond 2^63", "overlap", "unknown numbers"],
)
def test_odd_headers_get_one_sentence(header: str, tmp_path: Path) -> None:
    assert "damaged or no weights file" in refusal(raw_safetensors(tmp_path / "model.safetensors", header, b"1234"))


def test_notes_that_are_no_text_are_named_and_the_file_is_not_called_damaged(tmp_path: Path) -> None:
    sentence = refusal(raw_safetensors(tmp_path / "model.safetensors", '{"__metadata__":{"step":3,"title":"x"}}'))
    assert "notes in its header are no text ('step')" in sentence
    assert "download" not in sentence


def test_a_header_that_is_too_large_or_has_too_many_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    assert "its header has 16777217 bytes" in refusal(raw_safetensors(path, b"{" + b" " * (1 << 24)))
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    many = {f"t{number}": empty for number in range(files.MOST_TENSORS + 1)}
    assert "it has 32769 tensors" in refusal(raw_safetensors(path, json.dumps(many)))


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("num_res_blocks", 100_000_000),
        ("channel_mult", [1] * 100_000),
        ("model_channels", 2**62),
        ("in_channels", 2**63),
    ],
)
def test_a_described_network_is_not_built_beyond_its_tensors(
    entry: str, value: object, good: dict[str, Tensor], tmp_path: Path
) -> None:
    """A hundred million blocks took all memory before anything was compared."""
    config = {"preset": asdict(PRESETS["modelscope"]), "unet": asdict(SMALL) | {entry: value}}
    header = {"i2v.kind": "checkpoint", "i2v.format": "1", "i2v.config": json.dumps(config)}
    save_file(good, tmp_path / "model.safetensors", header)
    assert re.search(
        "many more layers than there are tensors|no unet can be built|not complete and exact",
        refusal(tmp_path / "model.safetensors"),
    )
    header |= {"i2v.kind": "image_retention", "i2v.config": json.dumps({"unet": config["unet"]})}
    save_file({f"image_retention.{name}": tensor for name, tensor in good.items()}, tmp_path / "a.safetensors", header)
    with pytest.raises(CheckpointError, match=r"Cannot load 'a\.safetensors': "):
        load_adapter(tmp_path / "a.safetensors")


def test_a_name_that_counts_a_hundred_million_blocks_is_refused(good: dict[str, Tensor], tmp_path: Path) -> None:
    for number in ("100000000", "9" * 5000):
        sentence = refused_tensors(tmp_path, good | named(f"{UNET}input_blocks.{number}.0.weight"))
        assert "belongs to block" in sentence
    assert "no network has a level or block 100000000" in refused_tensors(
        tmp_path, named("conv_in.weight", "down_blocks.100000000.resnets.0.conv1.weight")
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_tensors_of_too_few_axes_are_named(rank: int, good: dict[str, Tensor], tmp_path: Path) -> None:
    for name in ("input_blocks.0.0.weight", "middle_block.1.transformer_blocks.0.attn2.to_k.weight", "out.2.weight"):
        assert f"its '{name}' has the shape" in refused_tensors(tmp_path, good | {UNET + name: torch.zeros([3] * rank)})


def test_members_of_an_archive_are_stored(good: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(good, tmp_path / "plain.ckpt")
    with zipfile.ZipFile(tmp_path / "plain.ckpt") as plain, zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", 8) as bomb:
        for member in plain.namelist():
            bomb.writestr(member, plain.read(member))
    assert re.search("its member '.*' is compressed", refusal(tmp_path / "bomb.ckpt"))


@pytest.mark.parametrize("kind", ["nested", "sparse", "stretched", "meta"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_tensors_that_are_more_than_numbers_are_refused(kind: str, good: dict[str, Tensor], tmp_path: Path) -> None:
    odd = {
        "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        "sparse": lambda: torch.eye(4).to_sparse(),
        "stretched": lambda: torch.zeros(1).expand(100_000, 100_000),
        "meta": lambda: torch.zeros(4, 4, device="meta"),
    }[kind]()
    torch.save(good | {UNET + "out.2.weight": odd}, tmp_path / "model.ckpt")
    assert re.search(
        "is no plain tensor|which are not in the file|truncated or damaged", refusal(tmp_path / "model.ckpt")
    )


def test_weights_that_are_no_numbers_are_named(good: dict[str, Tensor], tmp_path: Path) -> None:
    broken = good[UNET + "out.2.weight"].clone()
    broken[0, 0] = float("nan")
    sentence = refused_tensors(tmp_path, good | {UNET + "out.2.weight": broken})
    assert "numbers of its 'out.2.weight' are infinite or none (NaN)" in sentence
