"""The host's own models at a tiny size, with seeded weights: one of each kind of prediction."""

from collections.abc import Callable
from typing import Any

import torch

SMALL_UNET: dict[str, Any] = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
    "channel_mult": [1, 2], "transformer_depth": [0, 1], "transformer_depth_output": [0, 0, 1, 1],
    "transformer_depth_middle": 1, "context_dim": 16, "use_spatial_transformer": True, "legacy": False,
    "dtype": torch.float32,
}  # fmt: skip
SMALL_SVD = SMALL_UNET | {
    "in_channels": 8, "num_classes": "sequential", "adm_in_channels": 768, "use_temporal_attention": True,
    "use_temporal_resblock": True, "extra_ff_mix_layer": True, "use_spatial_context": True,
    "merge_strategy": "learned_with_images", "merge_factor": 0.0, "video_kernel_size": [3, 1, 1],
    "use_linear_in_transformer": True,
}  # fmt: skip
SMALL_WAN: dict[str, Any] = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 48, "ffn_dim": 64, "freq_dim": 32, "text_dim": 16,
    "num_heads": 2, "num_layers": 1, "text_len": 8, "dtype": torch.float32,
}  # fmt: skip
KINDS = ["eps", "v", "edm", "flow"]
Host = Callable[[str], Any]


def stock_model(host: Host, kind: str) -> Any:
    """A patcher of the host with a model that predicts `eps` (SD 1.5), `v` (SD 2), `edm` (SVD) or `flow` (Wan)."""
    configs, base = host("comfy.supported_models"), host("comfy.model_base")
    config = {
        "eps": lambda: configs.SD15(SMALL_UNET),
        "v": lambda: configs.SD20(SMALL_UNET),
        "edm": lambda: configs.SVD_img2vid(SMALL_SVD),
        "flow": lambda: configs.WAN21_T2V(SMALL_WAN),
    }[kind]()
    if kind != "flow":
        config.unet_config |= {"num_heads": 2, "num_head_channels": -1}
    with torch.random.fork_rng(), torch.inference_mode(False):
        torch.manual_seed(0)
        if kind in ("eps", "v"):
            types = base.ModelType
            model = base.BaseModel(config, model_type=types.EPS if kind == "eps" else types.V_PREDICTION)
        else:
            model = config.get_model({})
        # The host leaves weights as memory had them.
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    cpu = torch.device("cpu")
    return host("comfy.model_patcher").ModelPatcher(model, load_device=cpu, offload_device=cpu)


def empty_latent(kind: str, frames: int = 3, clips: int = 1) -> torch.Tensor:
    """Latents of clips in the kind's layout."""
    return torch.zeros(clips, 16, frames, 4, 4) if kind == "flow" else torch.zeros(clips * frames, 4, 4, 4)


def sample_stock(
    host: Host, model: Any, latent: torch.Tensor, *, sampler: str = "euler", cfg: float = 3.0, steps: int = 3
) -> torch.Tensor:
    """Latents from the host's own sampling."""
    draw = torch.Generator().manual_seed(7)
    positive, negative = ([[torch.randn(1, 8, 16, generator=draw), {}]] for _ in range(2))
    noise = torch.randn(latent.shape, generator=draw)
    return host("comfy.sample").sample(
        model, noise, steps, cfg, sampler, "simple", positive, negative, latent, disable_pbar=True, seed=0
    )
