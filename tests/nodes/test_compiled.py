"""The host's own compiling (TorchCompileModel, which wraps the whole network) on our models."""

from collections.abc import Callable
from typing import Any

import pytest
import torch


def test_a_compiled_model_samples_as_it_did_from_one_graph(
    monkeypatch: pytest.MonkeyPatch,
    compiling: Any,
    host_module: Callable[[str], Any],
    tiny: Any,
    prepare: Callable[..., Any],
    sample: Callable[..., torch.Tensor],
) -> None:
    attention = host_module("comfy.ldm.modules.attention")
    # GPUs' usual one; that of hosts on a CPU asks the system for its free memory in the midst of the graph.
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)
    given, compiled = prepare(tiny), tiny.model.clone()
    expected = sample(tiny.model, given)
    # What the node does, with a backend that needs no C++ compiler.
    wrapper = host_module("comfy_api.torch_helpers.torch_compile")
    wrapper.set_torch_compile_wrapper(model=compiled, backend="eager")
    torch.testing.assert_close(sample(compiled, given), expected, atol=1e-5, rtol=1e-5)
    assert dict(compiling["graph_break"]) == {}
    assert compiling["stats"]["unique_graphs"] == 1
    assert torch.equal(sample(tiny.model, given), expected), "the given model stays as it is"
