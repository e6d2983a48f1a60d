"""The host's VAE around a checkpoint's image autoencoder."""

from typing import Any

import comfy.ops
import comfy.sd
import comfy.taesd.taesd
import torch
from torch import Tensor, nn

from ...i2v_core.model.autoencoder import AutoencoderConfig
from ...i2v_core.model.dual_reference_decoder import DualReferenceConfig
from ...i2v_core.model.patch_autoencoder import PatchAutoencoderConfig
from ...i2v_core.weights import CheckpointContents
from ...i2v_core.weights.contents import build_autoencoder
from .dual_reference import HostDualReference
from .patcher import make_patcher


def load_vae(contents: CheckpointContents) -> Any:
    """The checkpoint's autoencoder; without one, the host's empty VAE, which says so when it is used."""
    config = contents.autoencoder_config
    tensors = dict(contents.autoencoder or {})
    if config is None or config == AutoencoderConfig():
        return comfy.sd.VAE(sd=tensors)
    if isinstance(config, PatchAutoencoderConfig):
        # Half precision saves nothing at this size and costs picture quality.
        network = build_autoencoder(config, operations=comfy.ops.disable_weight_init)
        return _own_vae(network, config, tensors, torch.float32)
    if isinstance(config, DualReferenceConfig):
        with torch.device("meta"):
            references = HostDualReference(config, operations=comfy.ops.disable_weight_init)
        return _own_vae(references, config, tensors, None)
    # Half precision saves nothing at this size and costs picture quality.
    vae = comfy.sd.VAE(sd=tensors, config={"params": _parameters(config)}, dtype=torch.float32)
    vae.latent_channels = config.latent_channels
    vae.downscale_ratio = vae.upscale_ratio = config.downscale
    return vae


def encode_image(vae: Any, pixels: Tensor) -> Tensor:
    """Encode pictures `n h w 3` in [0, 1] to the host's latents `n c h w`, without the model's scale factor.

    Raises ValueError for a VAE that encodes videos instead of pictures.
    """
    latent = vae.encode(pixels)
    if latent.ndim != 4:
        raise ValueError(
            f"Expected an image VAE, got one whose latents have {latent.ndim} axes: connect the VAE of "
            "Load I2V Checkpoint, or one for Stable Diffusion 1.5 or 2.1 where the model takes its latents."
        )
    return latent


def _own_vae(
    network: nn.Module,
    config: AutoencoderConfig | PatchAutoencoderConfig,
    tensors: dict[str, Tensor],
    dtype: torch.dtype | None,
) -> Any:
    """The host's VAE with our network in it.

    The host knows neither linear patches nor references. It sets itself up for a tiny network of as many channels, so
    that all it does around one (memory, batches, tiles) is its own in every version; then ours takes that network's
    place.
    """
    shell = comfy.taesd.taesd.TAESD(latent_channels=config.latent_channels).state_dict()
    vae = comfy.sd.VAE(sd=shell, dtype=dtype)
    # Copies, so that nothing holds on to the file.
    owned = {name: tensor.to(vae.vae_dtype, copy=True) for name, tensor in tensors.items()}
    network.load_state_dict(owned, assign=True)
    vae.first_stage_model = network.eval()
    vae.patcher = make_patcher(network, vae.device, vae.patcher.offload_device)
    vae.downscale_ratio = vae.upscale_ratio = config.downscale
    vae.size = None
    vae.model_size()
    return vae


def _parameters(config: AutoencoderConfig) -> dict[str, Any]:
    widths = {
        "ch": config.channels,
        "ch_mult": list(config.channel_mult),
        "z_channels": config.latent_channels,
    }
    fixed = {"double_z": True, "resolution": 256, "in_channels": 3, "out_ch": 3, "attn_resolutions": []}
    layers = {"num_res_blocks": config.num_res_blocks, "dropout": 0.0}
    return {"ddconfig": widths | fixed | layers, "embed_dim": config.latent_channels}
