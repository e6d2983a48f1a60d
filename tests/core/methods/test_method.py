"""A fifth method: a toy that one registration brings to adapter files, generation and training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from i2v_core import save_checkpoint
from i2v_core.conditions import Conditions
from i2v_core.denoiser import Denoiser
from i2v_core.methods import METHODS, Method, NetworkCall, Training, register
from i2v_core.model.seams import Seams
from i2v_core.training.methods import find_method, run
from i2v_core.training.new_model import new_autoencoder, new_networks, new_preset
from i2v_core.training.short_config import report
from i2v_core.weights import Checkpoint, is_adapter, load_adapter, load_checkpoint
from tests.core.training.small import adapter_config, small_recipe
from tests.core.weights.small import seed


@dataclass(frozen=True)
class ToyConfig:
    channels: int = 32


@dataclass(frozen=True)
class ToyOptions:
    pass


class Toy(nn.Module):
    """A constant that every position of the first convolution's output gets."""

    def __init__(self, config: ToyConfig, *, operations: Any = nn, attention: Any = None, **factory: Any) -> None:
        super().__init__()
        self.config, self.value = config, nn.Parameter(torch.zeros(config.channels, **factory))


@dataclass(frozen=True)
class ToyMethod(Method):
    kind: ClassVar = "toy"
    config: ClassVar = ToyConfig
    build: ClassVar = Toy
    training: ClassVar = Training(("toy",), ToyOptions, lambda base, config: Toy(config), lambda name, options: False)

    def seams(self, call: NetworkCall) -> Seams:
        return Seams(hint=self.module.value[None, :, None, None].expand(len(call.x), -1, *call.x.shape[-2:]))


@pytest.fixture
def registered() -> Iterator[None]:
    """All that the toy asks of the pack: one entry in one registry."""
    register(ToyMethod)
    yield
    del METHODS["toy"]


@pytest.mark.usefixtures("registered")
def test_a_registered_method_is_trained_kept_in_a_file_and_at_work_in_the_denoiser(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, steps=2)
    text_encoder, unet = new_networks(recipe)
    networks = seed(unet), None, seed(new_autoencoder(recipe)), text_encoder
    save_checkpoint(tmp_path / "base.safetensors", Checkpoint(*networks, new_preset(recipe), "i2v", {}))
    config = adapter_config(tmp_path / "base.safetensors", "toy", recipe, tmp_path / "toy")
    assert find_method("toy") is ToyMethod
    file = run(config)
    assert is_adapter(file) and "toy" in report(config, file, [])
    adapter, checkpoint = load_adapter(file), load_checkpoint(tmp_path / "base.safetensors")
    assert adapter.kind == "toy" and adapter.module.value.abs().sum() > 0  # type: ignore[operator,union-attr]
    denoiser = Denoiser.adapted(checkpoint.unet, checkpoint.preset, [adapter])
    with torch.no_grad():
        assert not torch.equal(answer(denoiser), answer(replace(denoiser, methods=())))


def answer(denoiser: Denoiser) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    z, latent = torch.randn(1, 4, 3, 8, 8, generator=draw), torch.randn(1, 4, 1, 8, 8, generator=draw)
    conditions = Conditions(torch.ones(1, 5, 32), torch.ones(1, 32), image_latent=latent)
    return denoiser.predict(z, torch.tensor([500.0]), conditions)


def test_every_method_has_a_training_and_a_kind_of_its_own() -> None:
    names = [name for method in METHODS.values() for name in method.training.names]  # type: ignore[union-attr]
    assert len(set(names)) == len(names)
    assert [kind for kind, method in METHODS.items() if method.kind != kind] == []
