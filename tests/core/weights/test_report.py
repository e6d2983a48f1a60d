"""Files are described from their shapes, and every public layout becomes one safetensors file."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from i2v_core.model.dual_reference_decoder import DualReferenceConfig
from i2v_core.weights import describe, load_checkpoint, read_checkpoint, save_checkpoint
from tests.core.weights.small_files import LAYOUTS, VARIANTS, Layout, small_unet_config, write_small

PARTS = ("unet", "image_projection", "autoencoder", "clip_text", "clip_vision")


def rows(report: str) -> dict[str, list[str]]:
    """Words of the report's lines about parts, by their label."""
    lines = [line for line in report.splitlines() if line[20:21] == " " and not line.startswith("part ")]
    return {line[:20].strip(): line[20:].split() for line in lines}


def test_a_description_counts_every_part(tmp_path: Path) -> None:
    contents = read_checkpoint(write_small(tmp_path, "dynamicrafter_512"))
    report = describe(contents)
    assert report.startswith("dynamicrafter_512 (lvdm names), license of the weights: Apache-2.0\n")
    assert "does not tell it from dynamicrafter_512_interp" in report
    assert (
        "predicts v; schedule scaled_linear, zero terminal SNR, rescaled to 0.7; trained on 16 frames of 512x320, "
        in report
    )
    parts = rows(report)
    # The towers have their real sizes: counted on OpenCLIP's ViT-H/14.
    assert parts["CLIP image tower"] == ["392", "632.08", "M", "1264.2", "MB", "float16"]
    assert parts["CLIP text tower"][:3] == ["295", "354.04", "M"]
    assert parts["U-Net"][0] == str(len(contents.unet))
    assert parts["U-Net"][-1] == "float32"
    assert parts["text encoder (ours)"] == ["none"]
    assert "left aside: 'alphas_cumprod', 'betas', 'embedder.model.logit_scale' and " in report


@pytest.mark.parametrize("variant", VARIANTS)
def test_describing_reads_no_weights_and_says_the_same(variant: str, tmp_path: Path) -> None:
    path = write_small(tmp_path, variant, "pruned")
    described, whole = read_checkpoint(path, described=True), read_checkpoint(path)
    assert describe(described) == describe(whole)
    assert {tensor.device.type for tensor in described.unet.values() if tensor.ndim > 1} == {"meta"}


def test_describing_a_pytorch_file_says_the_same(tmp_path: Path) -> None:
    path = write_small(tmp_path, "dynamicrafter_256", "deepspeed")
    assert describe(read_checkpoint(path, described=True)) == describe(read_checkpoint(path))


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [(layout, torch.float16) for layout in LAYOUTS] + [("full", torch.bfloat16), ("full", torch.float32)],
)
def test_every_layout_becomes_one_file(layout: Layout, dtype: torch.dtype, tmp_path: Path) -> None:
    source = read_checkpoint(
        write_small(tmp_path, "dynamicrafter_1024", layout, towers=False), preset="dynamicrafter_1024"
    )
    save_checkpoint(tmp_path / "one.safetensors", source, dtype=dtype)
    one = read_checkpoint(tmp_path / "one.safetensors")
    assert one.preset.name == "dynamicrafter_1024"
    assert one.unet_config == small_unet_config("dynamicrafter_1024")
    for part in PARTS:
        before, after = getattr(source, part), getattr(one, part)
        assert (before is None) == (after is None)
        for name, tensor in (before or {}).items():
            assert torch.equal(after[name], tensor.to(dtype)), name
    with safe_open(tmp_path / "one.safetensors", "pt") as file:
        assert json.loads(file.metadata()["i2v.config"])["preset"]["name"] == "dynamicrafter_1024"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_converted_file_tells_what_the_source_needed_told(variant: str, tmp_path: Path) -> None:
    """Also the interpolation model, which only its user knows."""
    preset = VARIANTS[variant][1]
    source = read_checkpoint(write_small(tmp_path, variant, "pruned"), preset=preset)
    save_checkpoint(tmp_path / "one.safetensors", source)
    loaded = load_checkpoint(tmp_path / "one.safetensors")
    assert loaded.preset.name == preset
    assert loaded.unet.config == small_unet_config(variant)
    assert loaded.autoencoder is not None
    assert isinstance(loaded.autoencoder.config, DualReferenceConfig) == (variant == "tooncrafter")
    assert not read_checkpoint(tmp_path / "one.safetensors").alternatives
