"""Deterministic weights and inputs for parity cases: the same names and shapes give the same tensors.

A case is a JSON file beside this one: it names a configuration, the state-dict keys and shapes of the
reference network (upstream's own names), and the inputs; the safetensors file of the same name holds what the
reference answered. Fill a network (through the loader, from the upstream names) with `state_dict(case)`, feed
`inputs(case)` and compare with `expected(case)`.
"""

import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

HERE = Path(__file__).parent


def seeded_normal(name: str, shape: Sequence[int]) -> Tensor:
    """Return a standard normal float32 tensor that depends on its name and shape only."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(tuple(shape), generator=generator)


def seeded_weight(name: str, shape: Sequence[int]) -> Tensor:
    """Return a weight of sensible size for any layer: 1/sqrt(fan_in) matrices, norms near 1, small biases."""
    noise = seeded_normal(name, shape)
    if len(shape) >= 2 and "latents" not in name:
        return noise / math.sqrt(math.prod(shape[1:]))
    if name.endswith(".weight"):
        return 1 + 0.1 * noise
    if len(shape) >= 2:
        return noise
    return 0.3 * noise if len(shape) == 0 else 0.05 * noise


def load(name: str, folder: Path = HERE) -> dict[str, Any]:
    """Return the description of a case."""
    case: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return case


def state_dict(case: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights of the reference network under upstream's names."""
    return {key: seeded_weight(key, shape) for key, shape in case["state_dict"].items()}


def inputs(case: dict[str, Any]) -> dict[str, Tensor]:
    """Return the inputs of a case by name."""
    return {
        key: torch.tensor(spec["values"]) if "values" in spec else seeded_normal(f"{case['name']}/{key}", spec["shape"])
        for key, spec in case["inputs"].items()
    }


def expected(case: dict[str, Any], folder: Path = HERE) -> dict[str, Tensor]:
    """Return what the reference answered."""
    return load_file(folder / f"{case['name']}.safetensors")
