"""ToonCrafter's autoencoder in the host's VAE, and its decoding between two images."""

from typing import Any

import comfy.model_management
from einops import rearrange
from torch import Tensor

from ...i2v_core.model.dual_reference_decoder import DualReferenceAutoencoder, decode_middle_twice
from ...i2v_core.video.frames import clip_to_frames, frames_to_clip
from ..convert import rows_to_clips


class HostDualReference(DualReferenceAutoencoder):
    """The autoencoder behind the host's calling convention: latents are unscaled, and all rows are one clip."""

    def encode(self, pixels: Tensor) -> Tensor:
        return super().encode(pixels) / self.config.scale_factor

    def decode(self, latents: Tensor) -> Tensor:
        return rearrange(self.decoder(rows_to_clips(latents, len(latents))), "1 c t h w -> t c h w")


def decode_between(vae: Any, latents: Tensor, images: Tensor, middle_twice: bool) -> Tensor:
    """Decode one clip `t c h w` of the host's latents to frames `t h w 3` in [0, 1].

    Args:
        vae: of a ToonCrafter file, from Load I2V Checkpoint.
        images: the first and the last, `2 h w 3` in [0, 1], of the clip's size.
        middle_twice: as in the reference, see `decode_middle_twice`.

    Raises ValueError for a VAE without such a decoder.
    """
    network = dual_reference(vae)
    # Its decoder needs all frames at once, where the host's estimate is for one.
    memory = len(latents) * vae.memory_used_decode(latents.shape, vae.vae_dtype)
    comfy.model_management.load_models_gpu([vae.patcher], memory_required=memory)
    place = {"device": vae.device, "dtype": vae.vae_dtype}
    references = network.reference_features(frames_to_clip(images)[None].to(**place))

    def decode(clip: Tensor) -> Tensor:
        return network.decoder(clip, references)

    clip = rows_to_clips(latents, len(latents)).to(**place)
    pixels = decode_middle_twice(decode, clip) if middle_twice else decode(clip)
    return clip_to_frames(pixels[0].float()).to(vae.output_device)


def dual_reference(vae: Any) -> HostDualReference:
    """The dual-reference autoencoder of a VAE; raises ValueError if it has another one."""
    network = getattr(vae, "first_stage_model", None)
    if not isinstance(network, HostDualReference):
        raise ValueError(
            "This VAE has no dual-reference decoder: connect vae of Load I2V Checkpoint with a full or pruned "
            "ToonCrafter file, or decode with VAE Decode."
        )
    return network
