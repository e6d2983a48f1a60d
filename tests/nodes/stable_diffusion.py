"""Small seeded models of the host's own Stable Diffusion classes, and adapters for them as files."""

from typing import Any

import torch

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
