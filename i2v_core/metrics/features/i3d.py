"""I3D (Carreira and Zisserman, 1705.07750): logits of Kinetics-400, the features of FVD and KVD.

The module has the names and the padding of `i3d_pretrained_400.pt`, the state dict that VideoGPT and its successors
use; the TorchScript file of StyleGAN-V is taken as it is.
"""

from collections.abc import Callable
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import Conv3d
from torch.nn import functional as F

from ...files import StrPath
from .files import is_torchscript, load_torchscript, load_weights, required_path, state_dict

SIDE, LEAST_FRAMES = 224, 10
Resize = Literal["stretch", "crop"]
ClipFeatures = Callable[[Tensor], Tensor]


def pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Pad `b c t h w` with zeros as TensorFlow's SAME does, the odd one at the end."""
    pads: list[int] = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max(k - (size % s or s), 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class MaxPool(nn.Module):
    """Maximum over zero-padded windows; zeros never win, since they follow a rectifier."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Unit3D(nn.Module):
    """Convolution, and unless it is the last one normalization and rectifier."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, last: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = Conv3d(inputs, outputs, kernel, stride, bias=last)
        self.bn = None if last else nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(pad_same(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x))


class InceptionModule(nn.Module):
    """Four branches beside each other; `widths` as the paper's Figure 3 counts them."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = Unit3D(inputs, widths[0])
        self.b1a, self.b1b = Unit3D(inputs, widths[1]), Unit3D(widths[1], widths[2], 3)
        self.b2a, self.b2b = Unit3D(inputs, widths[3]), Unit3D(widths[3], widths[4], 3)
        self.b3a, self.b3b = MaxPool((3, 3, 3), (1, 1, 1)), Unit3D(inputs, widths[5])
        self.outputs = widths[0] + widths[2] + widths[4] + widths[5]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], dim=1)


MODULES: dict[str, tuple[int, int, int, int, int, int] | None] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32), "Mixed_3c": (128, 128, 192, 32, 96, 64), "MaxPool3d_4a_3x3": None,
    "Mixed_4b": (192, 96, 208, 16, 48, 64), "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64), "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128), "MaxPool3d_5a_2x2": None,
    "Mixed_5b": (256, 160, 320, 32, 128, 128), "Mixed_5c": (384, 192, 384, 48, 128, 128),
}  # fmt: skip


class I3D(nn.Sequential):
    """Clips `b 3 t 224 224` in [-1, 1], t at least 10, to logits `b 400` averaged over time."""

    def __init__(self, classes: int = 400) -> None:
        super().__init__()
        self.add_module("Conv3d_1a_7x7", Unit3D(3, 64, 7, 2))
        self.add_module("MaxPool3d_2a_3x3", MaxPool((1, 3, 3), (1, 2, 2)))
        self.add_module("Conv3d_2b_1x1", Unit3D(64, 64))
        self.add_module("Conv3d_2c_3x3", Unit3D(64, 192, 3))
        self.add_module("MaxPool3d_3a_3x3", MaxPool((1, 3, 3), (1, 2, 2)))
        channels = 192
        for name, widths in MODULES.items():
            if widths is None:
                size = 3 if name.endswith("3x3") else 2
                self.add_module(name, MaxPool((size,) * 3, (2, 2, 2)))
            else:
                self.add_module(name, module := InceptionModule(channels, widths))
                channels = module.outputs
        self.add_module("avg_pool", nn.AvgPool3d((2, 7, 7), stride=1))
        self.add_module("logits", Unit3D(channels, classes, last=True))

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x)
        return rearrange(x, "b d t 1 1 -> b d t").mean(-1)


def prepare_clips(clips: Tensor, resize: Resize) -> Tensor:
    """Bring clips `b c t h w` to 224 x 224 by plain bilinear interpolation, as the published pipelines do.

    Args:
        resize: "stretch" ignores the aspect ratio (the original and cd-fvd), "crop" fits the short side and cuts
            (VideoGPT and common_metrics). The same for square clips.
    """
    height, width = clips.shape[-2:]
    scale = SIDE / min(height, width)
    size = (
        (SIDE, SIDE) if resize == "stretch" else tuple(max(SIDE, -int(-side * scale // 1)) for side in (height, width))
    )
    frames = rearrange(clips.float(), "b c t h w -> (b t) c h w")
    frames = F.interpolate(frames, size, mode="bilinear", align_corners=False)
    top, left = ((side - SIDE) // 2 for side in size)
    frames = frames[..., top : top + SIDE, left : left + SIDE]
    return rearrange(frames, "(b t) c h w -> b c t h w", b=len(clips))


def load_i3d(path: StrPath | None, *, device: str = "cpu", resize: Resize = "stretch") -> ClipFeatures:
    """Load I3D as a function from clips `b c t h w` in [-1, 1] to logits `b 400`.

    The function raises ValueError for fewer than 10 frames, which the network cannot bear.

    Raises:
        FileNotFoundError: no file; the sentence names the usual ones.
        CheckpointError: another kind of file.
    """
    found = required_path("i3d", path)
    if is_torchscript(found):
        script = load_torchscript(found, device)

        def network(clips: Tensor) -> Tensor:
            return script(clips, rescale=False, resize=False, return_features=True)

    else:
        network = load_weights(I3D(), state_dict(found), found, "the I3D of i3d_pretrained_400.pt").to(device)

    def features(clips: Tensor) -> Tensor:
        if clips.shape[2] < LEAST_FRAMES:
            raise ValueError(
                f"FVD and KVD need clips of {LEAST_FRAMES} frames or more, because I3D halves their number three times "
                f"(the papers take 16); got {clips.shape[2]}."
            )
        with torch.inference_mode():
            return network(prepare_clips(clips, resize).to(device)).float().cpu()

    return features
