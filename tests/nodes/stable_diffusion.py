"""Small seeded models of the host's own Stable Diffusion classes, and adapters for them as files."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CHANNELS, CONTEXT, LEVELS = 32, 64, (1, 2)

# What the host finds in a checkpoint of this layout; only its loader insists on 320 channels.
LAYOUT: dict[str, Any] = {
    "image_size": 32,
    "use_checkpoint": False,
    "legacy": False,
    "use_spatial_transformer": True,
    "use_temporal_resblock": False,
    "use_temporal_attention": False,
    "adm_in_channels": None,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": CHANNELS,
    "channel_mult": list(LEVELS),
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1],
    "context_dim": CONTEXT,
}


def stable_diffusion(version: str = "SD15", **changes: Any) -> Any:
    """The host's model of this version, small, as its loader hands it on.

    Call it only once the `pack` is loaded.
    """
    import comfy.model_patcher
    import comfy.supported_models

    kind = getattr(comfy.supported_models, version)
    config = kind(LAYOUT | {"use_linear_in_transformer": version != "SD15"} | changes)
    if version != "SD15":
        config.unet_config["num_head_channels"] = 32  # 64 in the real one
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    model.load_model_weights(seeded_weights(model.diffusion_model))
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def seeded_weights(network: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights that keep the size of what passes through; the host's layers begin with none."""
    draw = torch.Generator().manual_seed(seed)

    def weight(key: str, shape: torch.Size) -> torch.Tensor:
        drawn = torch.randn(shape, generator=draw)
        if len(shape) == 1:
            return drawn * 0.05 + float(key.endswith("weight"))
        return drawn / shape[1:].numel() ** 0.5

    return {key: weight(key, value.shape) for key, value in network.state_dict().items()}


def conditioning(*seeds: int) -> list[Any]:
    """One CONDITIONING for each seed, in place of encoded prompts."""
    draws = (torch.Generator().manual_seed(seed) for seed in seeds)
    return [[[torch.randn(1, 7, CONTEXT, generator=draw), {}]] for draw in draws]


def write_checkpoint(path: Path, in_channels: int = 4) -> None:
    """The smallest file that the host's own loader takes for Stable Diffusion 1.5: 24 million weights in the U-Net.

    With 8 input channels it is InstructPix2Pix.

    Width and text encoder are the real ones, because the loader insists; the autoencoder is the tiny one that it knows.
    """
    import comfy.sd1_clip
    import comfy.taesd.taesd
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    small = {
        "in_channels": in_channels,
        "model_channels": 320,
        "channel_mult": [1],
        "num_res_blocks": [1],
        "context_dim": 768,
    }
    depths = {"transformer_depth": [1], "transformer_depth_output": [1, 1]}
    with torch.device("meta"):
        parts = {
            "model.diffusion_model.": UNetModel(**LAYOUT | small | depths, num_heads=8),
            "cond_stage_model.": comfy.sd1_clip.SD1ClipModel(device="meta", dtype=torch.float16).clip_l,
            "first_stage_model.": comfy.taesd.taesd.TAESD(),
        }
    shapes = {prefix + key: v.shape for prefix, part in parts.items() for key, v in part.state_dict().items()}
    # One draw for all of them: a hundred million would take longer than the test.
    drawn = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).half()

    def weight(shape: torch.Size) -> torch.Tensor:
        count, fan_in = shape.numel(), max(1, shape[1:].numel())
        return drawn.repeat(-(-count // len(drawn)))[:count].reshape(shape) / fan_in**0.5

    save_file({key: weight(shape) for key, shape in shapes.items()}, path)
