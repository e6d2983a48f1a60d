"""Sinusoidal embeddings against the formula, one number at a time."""

import math

import pytest
import torch

from i2v_core.model.embeddings import embedding_mlp, sinusoidal_embedding


@pytest.mark.parametrize("value", [0.0, 1.0, 24.0, 801.5, 999.0])
def test_cosines_come_first_and_frequencies_fall_geometrically(value: float) -> None:
    features = 10
    frequencies = [10000 ** (-i / 5) for i in range(5)]
    expected = [math.cos(value * f) for f in frequencies] + [math.sin(value * f) for f in frequencies]
    embedded = sinusoidal_embedding(torch.tensor([value]), features)[0]
    assert embedded.tolist() == pytest.approx(expected, abs=2e-4)


def test_embeddings_are_float32_whatever_the_values_are() -> None:
    whole = sinusoidal_embedding(torch.tensor([3, 999]), 8)
    assert whole.dtype == torch.float32
    assert torch.equal(whole, sinusoidal_embedding(torch.tensor([3.0, 999.0], dtype=torch.float64), 8))


def test_the_layers_have_the_checkpoints_names() -> None:
    assert set(embedding_mlp(4, 8, torch.nn).state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
