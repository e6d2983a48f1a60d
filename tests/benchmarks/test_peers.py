"""What the benchmarks check before they measure, at tiny sizes and without the host."""

import importlib
from types import ModuleType
from typing import Any

import pytest
import torch

import dev
from i2v_core.model.autoencoder import AutoencoderConfig
from i2v_core.weights.contents import build_autoencoder


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of benchmarks/ by name, found as when one of its scripts runs."""
    monkeypatch.syspath_prepend(str(dev.ROOT / "benchmarks"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.mark.slow
@torch.no_grad()
def test_the_autoencoder_of_diffusers_is_equal_until_a_weight_changes(script: Any) -> None:
    config = AutoencoderConfig(channels=32, channel_mult=(1, 1), num_res_blocks=1)
    peers, ours = script("_peers"), build_autoencoder(config)
    weights = peers.seeded_weights(ours)
    ours.load_state_dict(weights)
    theirs = script("vae").diffusers_autoencoder(config, weights).eval()
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def check() -> None:
        decoded = theirs.decode(latents / config.scale_factor).sample
        peers.check_equal({"decode": peers.difference(ours.decode(latents), decoded)}, torch.float32)

    check()
    ours.get_parameter("decoder.conv_in.weight").mul_(1.01)
    with pytest.raises(SystemExit, match="outputs differ by more than 1e-04: decode"):
        check()


def test_outputs_without_numbers_are_never_equal(script: Any) -> None:
    peers, numbers = script("_peers"), torch.randn(8)
    assert peers.difference(torch.full((8,), float("nan")), numbers) == float("inf")
    with pytest.raises(SystemExit):
        peers.check_equal({"any": peers.difference(numbers, numbers / 0)}, torch.float32)


@torch.no_grad()
def test_seeded_weights_keep_dtype_and_size(script: Any) -> None:
    layer = torch.nn.Linear(256, 256, dtype=torch.float16)
    weights = script("_peers").seeded_weights(layer)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert 0.8 < weights["weight"].float().std() * 16 < 1.2


def test_a_table_is_markdown(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    script("_peers").print_table(("step", "s"), [("ours", 1), ("theirs", 2)])
    assert capsys.readouterr().out == "| step | s |\n| --- | --- |\n| ours | 1 |\n| theirs | 2 |\n"
