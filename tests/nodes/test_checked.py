"""Inputs that the host lets through: each node names the one that does not fit, what it expects, and what arrived."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

LITERALS = (None, True, -1e9, 10**30, "x\ud800", {}, {"samples": None}, [], [[1, 2]], float("nan"), object())


@pytest.fixture(scope="module")
def checked(pack: Any) -> Any:
    return importlib.import_module(".nodes.checked", pack.__name__)


def test_what_belongs_on_a_link_is_no_literal(checked: Any, node_classes: dict[str, Any]) -> None:
    for node in node_classes.values():
        schema = node.define_schema()
        for entry in schema.inputs:
            for value in LITERALS:
                problem = checked.problem_of(entry, value)
                fits = entry.get_io_type() == "BOOLEAN" and isinstance(value, bool | int)
                fits = fits or (entry.get_io_type() in ("INT", "FLOAT") and value is True)
                if fits or (value is None and entry.optional):
                    continue
                assert problem, f"{schema.node_id}: {entry.id} takes {value!r}"
                with pytest.raises(
                    ValueError, match=rf"^{schema.display_name}: {entry.id} expects [^\n]*, got [^\n]*\.$"
                ):
                    checked.check_inputs(schema, {entry.id: value})


def test_a_wrapped_node_is_refused_through_execute(node_classes: dict[str, Any]) -> None:
    node = node_classes["I2VVideoLatent"]
    with pytest.raises(ValueError, match=r"^Video Latent: width expects a whole number from 16 to"):
        node.execute(2, -3, 64)


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        ("IMAGE", torch.rand(2, 8, 8, 3), True),
        ("IMAGE", torch.rand(8, 8, 3), False),
        ("IMAGE", torch.rand(0, 8, 8, 3), False),
        ("IMAGE", torch.ones(1, 2, 2, 3, dtype=torch.int64), False),
        ("LATENT", {"samples": torch.rand(2, 4, 8, 8)}, True),
        ("LATENT", {"samples": torch.rand(1, 16, 2, 8, 8)}, True),
        ("LATENT", {"samples": torch.rand(4)}, False),
        ("LATENT", {"samples": torch.tensor(float("inf")).expand(1, 4, 2, 2)}, False),
        ("LATENT", {"noise_mask": torch.rand(2, 8, 8)}, False),
        ("CONDITIONING", [[torch.rand(1, 77, 8), {}]], True),
        ("CONDITIONING", [], False),
        ("CONDITIONING", [[torch.rand(1, 77, 8)]], False),
        ("CONDITIONING", [[torch.rand(8), {}]], False),
        ("AUDIO", {"waveform": torch.rand(1, 2, 100), "sample_rate": 44100}, True),
        ("AUDIO", {"waveform": torch.rand(1, 2, 100), "sample_rate": 0}, False),
        ("AUDIO", {"waveform": torch.rand(100), "sample_rate": 44100}, False),
        ("SIGMAS", torch.tensor([1.0, 0.0]), True),
        ("SIGMAS", torch.rand(2, 2), False),
    ],
)
def test_structures_of_the_right_kind_are_looked_into(checked: Any, kind: str, value: Any, fits: bool) -> None:
    assert (checked.STRUCTURES[kind](value) is None) == fits


def test_every_kind_of_input_is_known(checked: Any, node_classes: dict[str, Callable[..., Any]]) -> None:
    kinds = {
        kind
        for node in node_classes.values()
        for entry in node.define_schema().inputs  # type: ignore[attr-defined]
        for kind in entry.get_io_type().split(",")
    }
    widgets = {"INT", "FLOAT", "BOOLEAN", "STRING", "COMBO"}
    assert kinds <= widgets | checked.CLASSES.keys() | checked.ABILITIES.keys() | checked.STRUCTURES.keys()


@pytest.mark.parametrize("name", ["a\ud800b", "nothing.safetensors", "../../etc/passwd"])
def test_a_fingerprint_raises_nothing_that_the_host_would_log(node_classes: dict[str, Any], name: str) -> None:
    """Half of a surrogate pair in its log ends the host's thread that works on prompts."""
    assert node_classes["I2VLoadCheckpoint"].fingerprint_inputs(checkpoint=name, preset="auto") is None
    assert node_classes["I2VLoadAdapter"].fingerprint_inputs(adapter=name) is None
