"""What is shipped in demo/ is what its README says."""

import json

import pytest

import dev
from i2v_core import Checkpoint, load_checkpoint
from i2v_core.training.recipe import data_fingerprint, read_recipe

DEMO = dev.ROOT / "demo"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(DEMO / "i2v_demo.safetensors")


def test_every_file_is_small() -> None:
    sizes = [path.stat().st_size for path in DEMO.rglob("*") if path.is_file()]
    assert max(sizes) < 16e6
    assert sum(sizes) < 40e6


def test_the_file_says_how_it_was_trained(checkpoint: Checkpoint) -> None:
    recipe = read_recipe(DEMO / "recipe.json")
    assert int(checkpoint.metadata["i2v.train_steps"]) > 0
    assert int(checkpoint.metadata["i2v.train_seconds"]) > 0
    assert checkpoint.metadata["i2v.dataset_fingerprint"] == data_fingerprint(recipe.data)
    assert checkpoint.unet.config == recipe.unet
    assert checkpoint.preset == recipe.preset


def test_the_readme_gives_the_figures_of_the_report() -> None:
    report = json.loads((DEMO / "report.json").read_text())
    assert sum(sum(row.values()) for row in report["confusion"].values()) == report["clips"] == 200
    text = (DEMO / "README.md").read_text()
    assert f"{report['accuracy']:.3f}" in text
    for name in ("psnr", "frozen_psnr"):
        assert " | ".join(f"{value:.1f}" for value in report[name]) in text
