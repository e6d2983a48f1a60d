"""Similarity of a clip's frames to the given image, the text and one another, on any embedding.

`frames` are embeddings of the frames of a clip, `... t d`; `image`, `text` and `real` are one embedding, `... d`. They
need not be normalized. Nothing here knows which network made them.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .checks import at_least, finite


def unit(features: Tensor) -> Tensor:
    """Scale features `... d` to length one.

    Raises ValueError for NaN, infinite or zero vectors, whose direction means nothing.
    """
    features = finite(features, "The features")
    length = features.norm(dim=-1, keepdim=True)
    if (length == 0).any():
        raise ValueError("A feature vector is zero and has no direction: check the network that made it.")
    return features / length


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between features `... d`, `...` in [-1, 1]."""
    return (unit(a) * unit(b)).sum(-1).clamp(-1, 1)


def isim_curve(frames: Tensor, image: Tensor) -> Tensor:
    """Image similarity of every frame to the given image, `... t` (look-back, Figures 2 and 10)."""
    return cosine(frames, image.unsqueeze(-2))


def isim_first(curve: Tensor) -> Tensor:
    """ISIM(1st) of a curve `... t`: the first frame's similarity (look-back, Table 1)."""
    return curve[..., 0]


def isim_average(curve: Tensor) -> Tensor:
    """ISIM(Avg) of a curve `... t`: the mean over all frames, the first included (look-back, Table 1)."""
    return curve.mean(-1)


def isim_decay(curve: Tensor, form: Literal["ends", "slope"] = "ends") -> Tensor:
    """Similarity lost per frame, of a curve `... t` (look-back, Table 1, which does not define it).

    Args:
        form: "ends" is (first - last) / (t - 1), which fits the rows of the paper; "slope" the negated slope of the
            least-squares line, which does not hang on one frame.

    Raises ValueError for fewer than two frames.
    """
    frames = curve.shape[-1]
    at_least(frames, 2, "ISIM decay, in frames,")
    if form == "ends":
        return (curve[..., 0] - curve[..., -1]) / (frames - 1)
    steps = torch.arange(frames, dtype=curve.dtype, device=curve.device)
    steps = steps - steps.mean()
    return -(curve * steps).sum(-1) / steps.square().sum()


def clipsim(frames: Tensor, text: Tensor) -> Tensor:
    """CLIPSIM: 100 times the mean similarity of the frames to the text, `...`."""
    return 100 * cosine(frames, text.unsqueeze(-2)).mean(-1)


def frame_consistency(frames: Tensor, k: int | None = None, pairs: Literal["all", "consecutive"] = "all") -> Tensor:
    """F-Consistency_k: 100 times the mean similarity between the first k frames, `...` (TRIP, section 4.1).

    Args:
        k: frames that count; None takes all.
        pairs: "all" pairs i < j, as the evaluation that TRIP cites; "consecutive" pairs only, the other convention.

    Raises ValueError for fewer than two frames, or a k that the clip does not have.
    """
    count = frames.shape[-2] if k is None else k
    at_least(count, 2, "Frame consistency, in frames,")
    at_least(frames.shape[-2], count, f"F-Consistency_{count}, in frames,")
    units = unit(frames[..., :count, :])
    if pairs == "consecutive":
        return 100 * (units[..., 1:, :] * units[..., :-1, :]).sum(-1).mean(-1)
    products = units @ units.transpose(-1, -2)
    first, second = torch.triu_indices(count, count, offset=1)
    return 100 * products[..., first, second].mean(-1)


def frame_consistency_curve(frames: Tensor) -> Tensor:
    """F-Consistency_k over k = 2 to t, all pairs, `... t-1` (TRIP, Figure 4).

    Raises ValueError for fewer than two frames.
    """
    at_least(frames.shape[-2], 2, "Frame consistency, in frames,")
    units = unit(frames)
    # Frame k adds k - 1 pairs; their sum is its product with the sum of the frames before it.
    added = (units[..., 1:, :] * units.cumsum(-2)[..., :-1, :]).sum(-1)
    count = torch.arange(1, frames.shape[-2], dtype=added.dtype, device=added.device).cumsum(0)
    return 100 * added.cumsum(-1) / count


def first_frame_similarity(frames: Tensor, real: Tensor) -> Tensor:
    """FFF_CLIP: similarity of the first generated frame to the first real one, `...` (DreamVideo, section 5.1)."""
    return cosine(frames[..., 0, :], real)


def subject_consistency(frames: Tensor) -> Tensor:
    """Mean over the later frames of the similarity to the one before and to the first, `...` in [0, 1].

    The formula of VBench's subject and background consistency (2311.17982); negative cosines count as 0.
    Raises ValueError for fewer than two frames.
    """
    at_least(frames.shape[-2], 2, "Subject consistency, in frames,")
    units = unit(frames)
    previous = (units[..., 1:, :] * units[..., :-1, :]).sum(-1)
    first = (units[..., 1:, :] * units[..., :1, :]).sum(-1)
    return (F.relu(previous) + F.relu(first)).mean(-1) / 2


def image_consistency(frames: Tensor, image: Tensor) -> Tensor:
    """0.4 of the best similarity to the given image, 0.3 of the mean and 0.3 of the least of consecutive frames, `...`.

    The formula of VBench-I2V's subject and background dimensions; negative cosines count as 0.
    Raises ValueError for fewer than two frames.
    """
    at_least(frames.shape[-2], 2, "Image consistency, in frames,")
    to_image = F.relu(isim_curve(frames, image))
    units = unit(frames)
    steps = F.relu((units[..., 1:, :] * units[..., :-1, :]).sum(-1))
    return 0.4 * to_image.amax(-1) + 0.3 * steps.mean(-1) + 0.3 * steps.amin(-1)
