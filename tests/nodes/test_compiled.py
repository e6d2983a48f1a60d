"""The host's own compiling (TorchCompileModel, which wraps the whole network) on our models."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What PyTorch counts while it compiles; nothing was compiled before."""
    import torch._dynamo

    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)  # thousands of records
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo.utils.counters
    torch._dynamo.reset()


def test_a_compiled_model_samples_as_it_did_from_one_graph(
    monkeypatch: pytest.MonkeyPatch,
    counters: Any,
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
    compiling = host_module("comfy_api.torch_helpers.torch_compile")
    compiling.set_torch_compile_wrapper(model=compiled, backend="eager")
    torch.testing.assert_close(sample(compiled, given), expected, atol=1e-5, rtol=1e-5)
    assert dict(counters["graph_break"]) == {}
    assert counters["stats"]["unique_graphs"] == 1
    assert torch.equal(sample(tiny.model, given), expected), "the given model stays as it is"
