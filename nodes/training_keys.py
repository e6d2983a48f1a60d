"""Keys of a training's configuration that a workflow may set.

A workflow comes from anywhere: what it sets must not choose a file to read or write, nor a state to go on from. So a
key is closed until it stands here; the command line takes all of them.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from ..i2v_core.text_files import parse_toml

OPEN: Mapping[str, str] = {
    "train": "max_train_steps train_batch_size gradient_accumulation_steps gradient_checkpointing mixed_precision seed "
    "checkpointing_steps checkpoints_total_limit",
    "train.ema": "decay",
    "data": "frames height width size target_fps frame_stride frame_stride_max run_frames rand_cond_frame avoid_cuts "
    "cut_threshold image_fps aspect_buckets bucket_step group cache_latents cache_dtype seed smallest_window detail",
    "optim": "optimizer learning_rate lr_scheduler lr_warmup_steps final_lr_ratio weight_decay max_grad_norm",
    "optim.param_groups": "adapter unet",
    "lora": "rank alpha layers",
    "diffusion": "snr_gamma noisy_share noisy_from",
    "conditioning": "text_drop image_drop drop_mode both_drop",
    "validation": "validation_steps prompt seed num_inference_steps guidance frames fps",
    "logging": "logging_steps plan_steps probe_clips probe_steps probe_unseen",
    "method.options": "initialization trained_along trained temporal_layers stage encoder_steps",
    "method.adapter": "depth kernel groups bottleneck placement padding adapter residual fusion position first_lambda "
    "last_lambda patch features heads stem_channels image_residual",
    "method.adapter.projection": "features depth heads head_dim queries frames visual_tokens",
    "method.adapter.injection": "image_gate",
    "method.adapter.encoder": "size patch features layers heads",
}
KEYS = frozenset(f"{table}.{key}" for table, keys in OPEN.items() for key in keys.split())


def check_keys(text: str) -> None:
    """Refuse TOML that sets anything but `KEYS`.

    Raises ValueError with the key, or for text that is no TOML.
    """
    try:
        closed = [key for key in _set(parse_toml(text), "") if key not in KEYS]
    except ValueError as error:
        raise ValueError(f"Cannot use this configuration: {error}") from error
    if closed:
        near = get_close_matches(closed[0], KEYS, n=1, cutoff=0.8)
        raise ValueError(
            f"config: a workflow may not set '{closed[0]}'{f' (did you mean {near[0]}?)' if near else ''}: leave it "
            "out, or train with python -m i2v_core train on the command line, which takes every key. The node's help "
            "page lists those that are open here."
        )


def _set(values: Mapping[str, Any], place: str) -> Iterator[str]:
    """The dotted keys that hold a value; an empty table sets nothing."""
    for name, value in values.items():
        key = f"{place}.{name}" if place else name
        if isinstance(value, Mapping) and key not in KEYS:
            yield from _set(value, key)
        else:
            yield key
