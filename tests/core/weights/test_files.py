"""What a file is, its first bytes decide, and no coincidence in them."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from i2v_core.weights.files import read_tensors


def test_every_header_length_of_a_safetensors_file_is_read(tmp_path: Path) -> None:
    """Lengths whose lowest byte is 0x80 look like the start of a pickle."""
    lowest = set()
    for padding in range(0, 264, 8):
        path = tmp_path / f"{padding}.safetensors"
        save_file({"weight": torch.ones(2)}, path, {"padding": "x" * padding})
        lowest.add(path.read_bytes()[0])
        assert read_tensors(path).tensors["weight"].tolist() == [1, 1]
    assert 0x80 in lowest
