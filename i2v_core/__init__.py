"""Image-to-video diffusion in PyTorch, independent of any host.

Axes, in every docstring: `b` clips, `t` frames, `c` channels, `h w` height and width, `n`/`k` tokens, `d` features.
Clips are `b c t h w`; pixels lie in [-1, 1].
"""

from .weights import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint

__version__ = "0.1.0"
__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint", "save_checkpoint"]
