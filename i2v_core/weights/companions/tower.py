"""CLIP towers of the transformers library, built without weights and filled from a file."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..contents import NetworkPart, Tensors, check_part
from ..files import CheckpointError

MOST_NUMBERS = 1 << 31  # ViT-bigG, the largest in public, has 1.8 billion


def build_tower(
    make: Callable[[], Any], inner: str, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.Module:
    """Make a tower on a device and take it out of the shell in which some versions of the library keep it.

    Raises ImportError if the library is not installed.
    """
    with torch.device(device or "cpu"):
        tower = make().to(dtype=dtype)
    return getattr(tower, inner, tower)


def load_tower(
    part: NetworkPart, config: Any, tensors: Tensors, device: torch.device | str, dtype: torch.dtype
) -> nn.Module:
    """Build a tower and give it those of the tensors that it has.

    Raises CheckpointError naming what is missing or misshapen.
    """
    if (count := sum(tensor.numel() for tensor in tensors.values())) > MOST_NUMBERS:
        raise CheckpointError(f"it claims {count} numbers; no tower has more than {MOST_NUMBERS}")
    network = part.build(config, device="meta", dtype=dtype)
    names = network.state_dict().keys()
    known = {name: tensor for name, tensor in tensors.items() if name in names}
    check_part(part, config, known, limited=False)
    # Copies, so that nothing holds on to the file.
    network.load_state_dict(
        {name: tensor.to(device=device, dtype=dtype, copy=True) for name, tensor in known.items()}, assign=True
    )
    for module in network.modules():
        positions = module._buffers.get("position_ids")
        if isinstance(positions, Tensor):
            # Not in any file, so still without numbers.
            module.register_buffer("position_ids", torch.arange(positions.numel(), device=device)[None], False)
    return network.requires_grad_(False)
