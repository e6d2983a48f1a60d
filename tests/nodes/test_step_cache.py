"""Step caching in the host: exact where nothing is reused, forgetful between runs, refused where it cannot work."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.nodes.test_look_back_video_unet import encoded


@pytest.fixture
def cached(node_classes: dict[str, Any]) -> Callable[..., Any]:
    node = node_classes["I2VStepCache"]
    # Around the check of inputs: a bound beyond the widget's leaves out whatever can be.
    return lambda model, bound, outer=1: node.execute.__func__.__wrapped__(node, model, bound, outer).result[0]


def left_out(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "step caching" in record.getMessage()]


def test_a_bound_that_is_always_passed_changes_nothing(
    tiny: Any, prepare: Callable[..., Any], sample: Callable[..., Any], cached: Callable[..., Any]
) -> None:
    given = prepare(tiny)
    assert torch.equal(sample(cached(tiny.model, 1e-9), given), sample(tiny.model, given))
    assert cached(tiny.model, 0.0) is tiny.model


def test_steps_are_left_out_and_the_next_run_remembers_none_of_them(
    tiny: Any,
    prepare: Callable[..., Any],
    sample: Callable[..., Any],
    cached: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    model, given = cached(tiny.model, 100.0), prepare(tiny)
    first = sample(model, given, steps=4)
    assert left_out(caplog)[-1].endswith("in 3 of 4")
    assert not torch.equal(first, sample(tiny.model, given, steps=4))
    assert first.isfinite().all()
    # Weights that change between the runs, as a LoRA's do, are those of the next run from its first step on.
    patched = model.clone()
    name = "diffusion_model.input_blocks.0.0.weight"
    patched.add_patches({name: ("diff", (torch.ones_like(tiny.model.model.state_dict()[name]),))})
    other = sample(patched, given, steps=4)
    assert not torch.allclose(other, first, atol=1e-3)
    assert torch.equal(sample(model, given, steps=4), first)
    assert left_out(caplog)[-1].endswith("in 3 of 4")


def test_samplers_that_go_back_compute_anew(
    tiny: Any, prepare: Callable[..., Any], cached: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    from tests.nodes.test_look_back_video_unet import sampled

    caplog.set_level(logging.INFO)
    sigmas = torch.tensor([5.0, 3.0, 1.0, 4.0, 2.0, 0.0])
    sampled(cached(tiny.model, 100.0), prepare(tiny), sigmas)
    assert left_out(caplog)[-1].endswith("in 3 of 5")


def test_look_back_and_step_caching_exclude_each_other(
    tiny: Any,
    prepare: Callable[..., Any],
    sample: Callable[..., Any],
    cached: Callable[..., Any],
    node_classes: dict[str, Any],
    look_back_adapter: Callable[..., Any],
) -> None:
    adapter, image = look_back_adapter("cached", 0.3, adapter="causal"), encoded(node_classes, tiny)
    (patched,) = node_classes["I2VApplyLookBack"].execute(tiny.model, adapter, image, "hybrid").result
    with pytest.raises(ValueError, match="use only one of the two"):
        sample(cached(patched, 0.2), prepare(tiny))


def test_settings_that_fit_no_model_are_refused(tiny: Any, cached: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="outer_blocks must be below this model's 4"):
        cached(tiny.model, 0.2, 4)


def test_other_models_are_refused(cached: Callable[..., Any], tiny: Any) -> None:
    other = tiny.model.clone()
    other.model = type("Holder", (), {"diffusion_model": torch.nn.Identity()})()
    with pytest.raises(ValueError, match="works on the models of Load I2V Checkpoint"):
        cached(other, 0.2)


def test_branches_together_and_one_after_the_other_remember_alike(
    monkeypatch: pytest.MonkeyPatch,
    tiny: Any,
    prepare: Callable[..., Any],
    sample: Callable[..., Any],
    cached: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    model, given = cached(tiny.model, 100.0), prepare(tiny)
    together = sample(model, given, steps=4)
    assert left_out(caplog)[-1].endswith("in 3 of 4")
    monkeypatch.setattr(tiny.model.model, "memory_usage_factor", 1e12)
    apart = sample(model, given, steps=4)
    assert left_out(caplog)[-1].endswith("in 6 of 8")
    # Were one branch to answer for the other, nothing would be left of the guidance between them.
    assert not torch.allclose(apart, sample(model, given, steps=4, cfg=1.0), atol=1e-2)
    torch.testing.assert_close(apart, together, atol=1e-3, rtol=1e-3)
