"""The host's CLIP_VISION and CLIP as encoders of frames and texts into one space."""

from typing import Any

import comfy.clip_model
import torch
from torch import Tensor


def encode_frames(clip_vision: Any, frames: Tensor) -> Tensor:
    """Embed frames `t h w 3` in [0, 1]: `t d` in float32 on the CPU.

    The host resizes the short side with torch's antialiased bicubic filter and crops the center; the third decimal of a
    similarity may differ from the command line's, which resizes with Pillow.

    Raises ValueError if the encoder has no projected embedding.
    """
    embedded = clip_vision.encode_image(frames, crop=True)["image_embeds"]
    if embedded is None:
        raise ValueError(
            "This clip_vision has no projected embedding: load a CLIP image encoder, such as CLIP-ViT-H-14."
        )
    return embedded.float().cpu()


def encode_text(clip: Any, text: str, width: int) -> Tensor:
    """Embed a text in the space of an image encoder of this width: `d` in float32 on the CPU.

    Raises ValueError for a text encoder without projection, of another width, or that is no CLIP.
    """
    tower = next((m for m in clip.cond_stage_model.modules() if isinstance(m, comfy.clip_model.CLIPTextModel)), None)
    if tower is None:
        raise ValueError("This clip is no CLIP text encoder, so texts and frames share no space: load the CLIP's own.")
    _check_projection(tower.text_projection.weight, width)
    stage = clip.cond_stage_model
    stage.reset_clip_options()
    # Diffusion models take the vector before the projection; similarity needs the one behind it.
    stage.set_clip_options({"projected_pooled": True})
    clip.load_model()
    pooled = stage.encode_token_weights(clip.tokenize(text))[1]
    stage.reset_clip_options()
    return pooled[0].float().cpu()


def _check_projection(weight: Tensor, width: int) -> None:
    """Files cut from diffusion checkpoints lack the projection; the host leaves an identity or unset memory there."""
    weight = weight.detach().float().cpu()
    size = weight.norm(dim=-1)
    unset = not torch.isfinite(size).all() or size.min() < 1e-3 or size.max() > 1e3
    if unset or torch.equal(weight, torch.eye(*weight.shape)):
        raise ValueError(
            "This clip has no text projection, as files cut from diffusion checkpoints: load the full text encoder "
            "that belongs to clip_vision, such as clip_l.safetensors beside CLIP-ViT-L-14."
        )
    if len(weight) != width:
        raise ValueError(
            f"clip gives embeddings of width {len(weight)} and clip_vision of {width}: load both from one CLIP."
        )
