"""Optical flow between neighboring frames: RAFT from torchvision's weights, or scikit-image's without weights."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ...files import StrPath
from ...video.frames import clip_to_frames
from .files import load_weights, optional_module, required_path, state_dict

LEAST_SIDE = 128  # RAFT's pyramid has nothing left below


@dataclass(frozen=True)
class FlowEstimator:
    """A way to estimate flow: what to call it beside a number, and the function from `c t h w` to `t-1 2 h w`."""

    name: str
    estimate: Callable[[Tensor], Tensor]


def load_raft(path: StrPath | None, *, device: str = "cpu") -> FlowEstimator:
    """Load RAFT (large or small, told by the weights) from one of torchvision's files.

    Raises:
        FileNotFoundError: no file; the sentence names the usual ones.
        ValueError: torchvision is missing, or another kind of file, such as the authors' raft-things.pth.
    """
    found = required_path("raft", path)
    models = optional_module("torchvision.models.optical_flow")
    tensors = state_dict(found)
    large = any(name.startswith("mask_predictor") for name in tensors)
    network = models.raft_large(weights=None) if large else models.raft_small(weights=None)
    network = load_weights(network, tensors, found, "one of torchvision's RAFT models").to(device)

    def estimate(clip: Tensor) -> Tensor:
        height, width = clip.shape[-2:]
        size = tuple(max(LEAST_SIDE, -(-side // 8) * 8) for side in (height, width))
        frames = F.interpolate(rearrange(clip, "c t h w -> t c h w").float(), size, mode="bilinear", antialias=True)
        frames = frames.to(device)
        with torch.inference_mode():
            pairs = range(len(frames) - 1)
            flows = torch.cat([network(frames[i : i + 1], frames[i + 1 : i + 2])[-1].cpu() for i in pairs])
        flows = F.interpolate(flows, (height, width), mode="bilinear")
        return flows * torch.tensor([width / size[1], height / size[0]]).view(1, 2, 1, 1)

    return FlowEstimator(f"RAFT {found.stem}", estimate)


def weightless_flow() -> FlowEstimator:
    """The iterative Lucas-Kanade flow of scikit-image: coarser than RAFT, and its numbers are not VBench's.

    Raises ValueError if scikit-image is missing.
    """
    registration = optional_module("skimage.registration")

    def estimate(clip: Tensor) -> Tensor:
        # Gray, since the method compares single values.
        frames = clip_to_frames(clip).mean(-1).cpu().numpy().astype(np.float32)
        radius = max(3, min(frames.shape[1:]) // 16)
        flows = [registration.optical_flow_ilk(a, b, radius=radius, num_warp=4) for a, b in pairwise(frames)]
        # Rows come first there, columns here.
        return torch.from_numpy(np.stack(flows)).float().flip(1)

    return FlowEstimator("scikit-image iLK", estimate)
