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


def test_rows_have_one_shape(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows = script("_rows")
    rows.print_rows(
        [
            rows.time_row("ours", [2.0, 1.0, 3.0], [4.0, 4.0, 4.0], "theirs"),
            rows.memory_row("ours", 3 * 2**20, 2 * 2**20, "theirs"),
            rows.floor_row("ours", 0.5, [2.0]),
            rows.Row("ours", "PSNR", 1234.5, "dB"),
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "| case | measured | value | unit | ratio | to |",
        "| --- | --- | --- | --- | --- | --- |",
        "| ours | time | 2 | s | 0.50 (0.25 to 0.75) | theirs |",
        "| ours | memory above weights | 3 | MiB | 1.50 | theirs |",
        "| ours | least possible time | 0.5 | s | 0.25 | its time |",
        "| ours | PSNR | 1234 | dB |  |  |",
    ]


def test_every_benchmark_prints_such_rows() -> None:
    for path in (dev.ROOT / "benchmarks").glob("[!_]*.py"):
        text = path.read_text(encoding="utf-8")
        assert "print_rows(" in text, path.name
        assert 'print("|' not in text and 'print(f"|' not in text, path.name
