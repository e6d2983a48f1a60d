"""Amount and smoothness of motion, which keep similarity honest: a frozen clip is the most similar of all.

Clips are pixels in [-1, 1], `... c t h w`; differences are given as shares of the full range, 0 to 1.
"""

from torch import Tensor

from .checks import at_least, finite


def motion_amount(clip: Tensor) -> Tensor:
    """Mean absolute difference of neighboring frames, `...`; 0 for a frozen clip. Raises ValueError for one frame."""
    return _steps(clip, 2).abs().flatten(-4).mean(-1)


def jerk(clip: Tensor) -> Tensor:
    """Mean absolute second difference over time, `...`; 0 for a frozen clip and for a linear fade.

    To be read beside the ground truth's: the same value is as smooth. Raises ValueError for fewer than three frames.
    """
    return _steps(clip, 3).diff(dim=-3).abs().flatten(-4).mean(-1)


def temporal_flickering(clip: Tensor) -> Tensor:
    """VBench's temporal flickering, 1 - motion amount, `...`: meant for clips whose prompt asks for stillness."""
    return 1 - motion_amount(clip)


def flow_amount(flow: Tensor) -> Tensor:
    """Mean length of the flow in pixels per frame, `...`, of a flow field `... t 2 h w`."""
    return finite(flow, "The flow").norm(dim=-3).flatten(-3).mean(-1)


def dynamic_degree(flow: Tensor) -> Tensor:
    """Tell moving clips from still ones, `...` of 1 and 0, by VBench's rule (2311.17982).

    A pair of frames moves if the mean of its 5 % longest flow vectors exceeds 6 pixels at a short side of 256; a clip
    moves if at least a quarter of its frames do.

    Args:
        flow: pixels per frame between neighboring frames of the clip at 8 frames per second, `... t 2 h w`.
    """
    lengths = finite(flow, "The flow").norm(dim=-3).flatten(-2)
    top = lengths.topk(max(1, int(lengths.shape[-1] * 0.05)), dim=-1).values.mean(-1)
    moving = (top > 6 * min(flow.shape[-2:]) / 256).sum(-1)
    # round(): VBench's own rounding of 4 in 16.
    return (moving >= max(1, round(4 * (flow.shape[-4] + 1) / 16))).float()


def _steps(clip: Tensor, needed: int) -> Tensor:
    at_least(clip.shape[-3], needed, "A measure of motion, in frames,")
    return finite(clip, "The pixels").diff(dim=-3) / 2
