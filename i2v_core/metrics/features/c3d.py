"""C3D fine-tuned on UCF101 (Tran et al., 1412.0767): class probabilities for the video Inception Score.

Layers and preprocessing are those of TGAN2, whose weights StyleGAN-V ported to TorchScript. The module here subtracts
the mean of each channel, TGAN2 a mean picture from a file of its own: only the archive's scores are comparable to the
digit.
"""

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import Conv3d, Linear
from torch.nn import functional as F

from ...files import StrPath
from ...video.frames import to_bytes, to_unit_range
from .files import is_torchscript, load_torchscript, load_weights, required_path, state_dict
from .i3d import ClipFeatures

SIDE, FRAMES = 112, 16
CHANNELS = {"conv1a": (3, 64), "conv2a": (64, 128), "conv3a": (128, 256), "conv3b": (256, 256), "conv4a": (256, 512),
            "conv4b": (512, 512), "conv5a": (512, 512), "conv5b": (512, 512)}  # fmt: skip
POOLED = {"conv1a": (1, 2, 2), "conv2a": (2, 2, 2), "conv3b": (2, 2, 2), "conv4b": (2, 2, 2), "conv5b": (2, 2, 2)}
BGR_MEAN = (90.25164795, 97.65701294, 101.4083252)  # of UCF101, levels of 0 to 255


class C3D(nn.Module):
    """Clips `b 3 16 112 112` in BGR levels without their mean, to class scores `b 101`."""

    def __init__(self, classes: int = 101) -> None:
        super().__init__()
        for name, (inputs, outputs) in CHANNELS.items():
            self.add_module(name, Conv3d(inputs, outputs, 3, padding=1))
        self.fc6, self.fc7, self.fc8 = Linear(8192, 4096), Linear(4096, 4096), Linear(4096, classes)

    def forward(self, x: Tensor) -> Tensor:
        for name in CHANNELS:
            x = F.relu(getattr(self, name)(x))
            if name in POOLED:
                # Caffe rounds the last, odd row up.
                x = F.max_pool3d(x, POOLED[name], ceil_mode=True)
        return self.fc8(F.relu(self.fc7(F.relu(self.fc6(x.flatten(1))))))


def prepare_clips(clips: Tensor) -> Tensor:
    """Turn clips `b 3 t h w` in [-1, 1] into what C3D takes, corners aligned as in TGAN2."""
    frames = rearrange(clips.float(), "b c t h w -> (b t) c h w")
    frames = F.interpolate(frames, (SIDE, SIDE), mode="bilinear", align_corners=True)
    levels = (frames.flip(1) + 1) * 127.5 - torch.tensor(BGR_MEAN, device=clips.device).view(-1, 1, 1)
    return rearrange(levels, "(b t) c h w -> b c t h w", b=len(clips))


def load_c3d(path: StrPath | None, *, device: str = "cpu") -> ClipFeatures:
    """Load C3D as a function from clips `b c t h w` in [-1, 1] to class probabilities `b 101`.

    The function takes the first 16 frames and raises ValueError for fewer.

    Raises:
        FileNotFoundError: no file; the sentence names the usual ones.
        CheckpointError: another kind of file.
    """
    found = required_path("c3d", path)
    script = load_torchscript(found, device) if is_torchscript(found) else None
    network = None if script else load_weights(C3D(), _tensors(found), found, "C3D of UCF101").to(device)

    def probabilities(clips: Tensor) -> Tensor:
        if clips.shape[2] < FRAMES:
            raise ValueError(
                f"The video Inception Score needs clips of {FRAMES} frames or more, of which C3D sees the first "
                f"{FRAMES}; got {clips.shape[2]}."
            )
        clips = clips[:, :, :FRAMES]
        with torch.inference_mode():
            if script is not None:
                # The archive takes bytes and ends with the softmax.
                return script(to_bytes(to_unit_range(clips)).to(device)).float().cpu()
            assert network is not None
            return network(prepare_clips(clips).to(device)).softmax(-1).float().cpu()

    return probabilities


def _tensors(path: Path) -> dict[str, Tensor]:
    """A state dict, or TGAN2's own npz with `conv1a/W` and `conv1a/b`."""
    if path.suffix != ".npz":
        return state_dict(path)
    renamed = {"W": "weight", "b": "bias"}
    with np.load(path, allow_pickle=False) as arrays:
        pairs = [(name.split("/"), torch.from_numpy(arrays[name])) for name in arrays.files]
    return {f"{layer}.{renamed[kind]}": tensor for (layer, kind), tensor in pairs}
