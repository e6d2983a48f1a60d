"""Compiling a video U-Net block by block: what joins the blocks stays eager, so that adapters still act there."""

from typing import Any

from .video_unet import VideoUNet

SHAPES = 8  # as many as PyTorch compiles any function for by itself


def compile_blocks(network: VideoUNet, **options: Any) -> None:
    """Let every block of the network compile itself at its first call with inputs of a shape.

    The names of its parameters stay as they are.

    Args:
        options: of `torch.compile`, such as `backend` or `fullgraph`.
    """
    import torch._dynamo.config as limits  # takes a second

    blocks = [*network.input_blocks, network.middle_block, *network.output_blocks]
    if network.config.init_attention:
        blocks.append(network.init_attn)
    # All blocks are one function to PyTorch, which leaves a function eager after eight compilations.
    limits.cache_size_limit = max(limits.cache_size_limit, SHAPES * len(blocks))
    limits.accumulated_cache_size_limit = max(limits.accumulated_cache_size_limit, limits.cache_size_limit)
    for block in blocks:
        block.compile(dynamic=False, **options)
