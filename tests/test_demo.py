"""What is shipped in demo/ is what its README says."""

import hashlib
import json

import pytest
import torch

import dev
from i2v_core import Checkpoint, load_checkpoint
from i2v_core.data.datasets import open_data
from i2v_core.denoiser import Denoiser
from i2v_core.generate import GenerateConfig, encode_conditions
from i2v_core.sampling import sample
from i2v_core.training.config_file import read_config
from i2v_core.weights import load_adapter

DEMO = dev.ROOT / "demo"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(DEMO / "i2v_demo.safetensors")


def test_every_file_is_small() -> None:
    sizes = [path.stat().st_size for path in DEMO.rglob("*") if path.is_file()]
    assert max(sizes) < 16e6
    assert sum(sizes) < 40e6


def test_the_file_says_how_it_was_trained(checkpoint: Checkpoint) -> None:
    recipe = read_config(DEMO / "recipe.toml")
    assert int(checkpoint.metadata["i2v.train_steps"]) > 0
    assert int(checkpoint.metadata["i2v.train_seconds"]) > 0
    assert checkpoint.metadata["i2v.dataset_fingerprint"] == open_data(recipe.data).fingerprint()
    assert checkpoint.unet.config == recipe.model.unet
    assert checkpoint.preset == recipe.model.preset


def test_the_readme_gives_the_figures_of_the_report() -> None:
    report = json.loads((DEMO / "report.json").read_text())
    assert sum(sum(row.values()) for row in report["confusion"].values()) == report["clips"] == 200
    text = (DEMO / "README.md").read_text()
    assert f"{report['accuracy']:.3f}" in text
    for name in ("psnr", "frozen_psnr"):
        assert " | ".join(f"{value:.1f}" for value in report[name]) in text


def test_the_look_back_adapter_makes_the_image_model_begin_with_the_picture() -> None:
    image_model = load_checkpoint(DEMO / "i2v_demo_image.safetensors")
    config = image_model.unet.config
    assert not config.temporal_attention and not config.temporal_convolution
    assert config == read_config(DEMO / "image_recipe.toml").model.unet
    adapter = load_adapter(DEMO / "adapters" / "look_back.safetensors")
    base = hashlib.sha256((DEMO / "i2v_demo_image.safetensors").read_bytes()).hexdigest()
    assert adapter.metadata["i2v.base_sha256"] == base
    denoiser = Denoiser.adapted(image_model.unet, image_model.preset, [adapter])
    given = torch.randn(1, 12, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert image_model.text_encoder is not None
    with torch.no_grad():
        conditions = [encode_conditions(image_model.text_encoder, [text], given) for text in ("pan left", "")]
        sampling = GenerateConfig(steps=2).sampling(image_model.preset)
        made = sample(denoiser, *conditions, (1, 12, 3, 16, 16), sampling, seeds=[0])
    assert torch.equal(made[:, :, :1], given)
    assert (made[:, :, 1:] - given).abs().max() > 0.1


def test_the_readme_gives_the_figures_of_look_back() -> None:
    reports = json.loads((DEMO / "adapters" / "look_back_report.json").read_text())
    text = (DEMO / "README.md").read_text()
    for report in reports.values():
        assert f"{report['clips']['accuracy']:.3f}" in text
