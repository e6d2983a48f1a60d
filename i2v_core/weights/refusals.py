"""Refusals of weights files that are not ours: what they are, as far as their names tell."""

import re
from collections.abc import Iterable

from ..decoding import shown

# The first pattern that any name matches decides, so the special comes before the general.
KINDS: tuple[tuple[str, str], ...] = (
    (r"\.lora_(up|down|A|B)\.|\.lora\.(up|down)\.|^lora_", "a LoRA"),
    (r"motion_modules\.", "an AnimateDiff motion module"),
    (r"^control_model\.|input_hint_block|controlnet_", "a ControlNet"),
    (r"(input_blocks|down_blocks)\..*(time_stack|temporal_transformer_blocks)", "Stable Video Diffusion"),
    (r"image_latents_proj_in|local_image_concat", "I2VGen-XL"),
    (r"^conditioner\.embedders|^add_embedding\.|transformer_blocks\.1\.(attn|norm)", "SDXL or its like"),
    (r"double_blocks\.|single_transformer_blocks\.|joint_blocks\.", "a diffusion transformer"),
    (r"x_embedder|patch_embed|(^|\.)blocks\.\d+\.(self_attn|attn1|attn)\.", "a diffusion transformer"),
    (r"^(text_model|transformer\.resblocks|encoder\.block)\.|^cond_stage_model\.", "a text encoder"),
    (r"^(vision_model|visual|embedder)\.", "an image encoder"),
    (r"^(first_stage_model\.)?(encoder|decoder)\.(conv_in|mid|down|up)", "a VAE"),
    (r"^(image_proj_model\.)?latents$", "an image projection without its U-Net"),
)


def looks_like(names: Iterable[str]) -> str | None:
    """Say what kind of file has these names; None if it cannot be told."""
    names = list(names)
    for pattern, kind in KINDS:
        if any(re.search(pattern, name) for name in names):
            return kind
    return None


def list_names(names: Iterable[str], most: int = 3) -> str:
    """Quote the first few names in order, and say how many there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(f"'{shown(name)}'" for name in ordered[:most]) + more
