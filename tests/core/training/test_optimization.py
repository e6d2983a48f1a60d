"""Learning rates: every network that is trained has one, a paper's or one that somebody named."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from i2v_core import Checkpoint, save_checkpoint
from i2v_core.training.config import OptimConfig, TrainingConfig
from i2v_core.training.engine import Engine
from i2v_core.training.methods import adapter_task
from i2v_core.training.new_model import new_autoencoder, new_networks, new_preset
from i2v_core.training.objective import ClipLosses, Objective
from i2v_core.training.optimization import learning_rates
from tests.core.training.small import adapter_config, small_recipe

PROJECTION = {"features": 32, "depth": 1, "heads": 1, "head_dim": 32, "queries": 2, "frames": 3}
CRAFTER = {"projection": PROJECTION, "encoder": {"size": 16, "patch": 8, "features": 32, "layers": 1, "heads": 1}}
FUSION = {"features": 32, "heads": 2}
STEM = {"stem_channels": [4, 8, 8]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingConfig]:
    """A small checkpoint, and its recipe without any rate."""
    folder = tmp_path_factory.mktemp("rates")
    recipe = small_recipe(folder)
    text_encoder, unet = new_networks(recipe)
    checkpoint = Checkpoint(unet, None, new_autoencoder(recipe), text_encoder, new_preset(recipe), "i2v", {})
    save_checkpoint(folder / "base.safetensors", checkpoint)
    return folder / "base.safetensors", replace(recipe, optim=OptimConfig())


@pytest.mark.parametrize(
    ("method", "adapter", "options", "rates"),
    [
        ("look_back", {"depth": 2}, {"trained_along": ["out."]}, {"adapter": 1e-4, "unet": 1e-4}),
        ("dynamicrafter", CRAFTER, {"stage": 1}, {"adapter": 1e-4}),
        ("dynamicrafter", CRAFTER, {"stage": 2}, {"adapter": 5e-5, "unet": 5e-5}),
        ("trip", FUSION, {}, {"adapter": 2e-4, "unet": 2e-6}),
        ("image_retention", STEM, {}, {"adapter": 5e-5, "unet": 5e-5}),
    ],
)
def test_the_optimizer_has_the_paper_s_rates(
    base: tuple[Path, TrainingConfig], tmp_path: Path, method: str, adapter: Any, options: Any, rates: dict[str, float]
) -> None:
    config = adapter_config(base[0], method, base[1], tmp_path, adapter=adapter, options=options)
    engine = Engine(adapter_task(config), config)
    assert engine.rates == rates
    assert [group["lr"] for group in engine.optimizer.param_groups] == list(rates.values())


def test_a_named_rate_goes_before_one_for_all_and_that_before_the_method_s() -> None:
    def no_loss(*_: Any) -> ClipLosses:
        raise NotImplementedError

    objective = Objective({"adapter": nn.Linear(1, 1), "unet": nn.Linear(1, 1)}, no_loss, 0)
    paper = {"adapter": 2e-4, "unet": 2e-6}
    assert learning_rates(objective, OptimConfig(), paper) == paper
    assert learning_rates(objective, OptimConfig(param_groups={"unet": 1.0}), paper) == {**paper, "unet": 1.0}
    for_all = OptimConfig(learning_rate=3.0, param_groups={"unet": 1.0})
    assert learning_rates(objective, for_all, paper) == {"adapter": 3.0, "unet": 1.0}
    with pytest.raises(ValueError, match=r"no learning rate is known for \['unet'\]: name one for all in optim\."):
        learning_rates(objective, OptimConfig(param_groups={"adapter": 1.0}), {})
    with pytest.raises(ValueError, match=r"names \['unett'\]; the run trains \['adapter', 'unet'\]"):
        learning_rates(objective, OptimConfig(param_groups={"unett": 1.0}), paper)
