"""Color drift: how far the colors of a clip have gone from a picture's, as they do when clips continue clips."""

from torch import Tensor

from ..video.match_colors import channel_statistics


def color_drift(clip: Tensor, reference: Tensor) -> Tensor:
    """Distance of the color statistics of each frame from the picture's.

    It is the Wasserstein-2 distance between the normal distributions of each channel, root mean square over the
    channels. A camera that moves changes it too: compare with a true clip, or with clips that stay still.

    Args:
        clip: pixels in [-1, 1], `c t h w`.
        reference: `c h w`, of any size.

    Returns:
        `t`, in levels of 0..255.
    """
    (mean, deviation), (wanted_mean, wanted_deviation) = channel_statistics(clip), channel_statistics(reference)
    squared = (mean - wanted_mean[:, None]).square() + (deviation - wanted_deviation[:, None]).square()
    return squared.mean(0).sqrt() * 127.5
