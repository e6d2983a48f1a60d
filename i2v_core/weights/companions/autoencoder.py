"""The autoencoder of Stable Diffusion from a file of its own, by LDM's or diffusers' names, or from a checkpoint."""

from pathlib import Path

import torch

from ...files import StrPath
from ...model.autoencoder import Autoencoder
from ..contents import AUTOENCODER as PART
from ..contents import Tensors, below, check_part
from ..files import CheckpointError, read_tensors
from ..recognize import recognize_autoencoder
from ..refusals import looks_like
from .key_maps import vae_from_diffusers

KEPT = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


def load_autoencoder(
    path: StrPath, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Autoencoder:
    """Read an autoencoder from a VAE file, a diffusers folder, or a checkpoint that holds one.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it holds no autoencoder of Stable Diffusion's kind.
    """
    try:
        tensors = _autoencoder(read_tensors(path).tensors)
        config = recognize_autoencoder(tensors)
        check_part(PART, config, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"Cannot load the autoencoder from '{Path(path).name}': {error}") from error
    network = PART.build(config, device="meta", dtype=dtype)
    owned = {name: tensor.to(device=device, dtype=dtype, copy=True) for name, tensor in tensors.items()}
    network.load_state_dict(owned, assign=True)
    assert isinstance(network, Autoencoder)
    return network.eval()


def _autoencoder(tensors: Tensors) -> Tensors:
    for prefix in (PART.prefix, "vae.", ""):
        found = {name: tensor for name, tensor in below(tensors, prefix).items() if name.startswith(KEPT)}
        if any(name.startswith("encoder.down_blocks.") for name in found):
            return vae_from_diffusers(found)
        if any(name.startswith("encoder.down.") for name in found):
            return found
    kind = looks_like(tensors)
    raise CheckpointError(
        f"it looks like {kind or 'something else'}; expected a VAE by LDM's or diffusers' names, or a full checkpoint"
    )
