"""Two small networks that look at clips: frame features for similarity, clip features for toyFVD.

They judge at the size of the proof only, and their numbers carry names of their own. Both see nothing but the seeded
clips of the training photographs: frames of one clip are alike whatever the camera did (ISIM, F-Consistency), and a
clip is known by its motion (toyFVD).
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from i2v_core.data.moving_crops import MOTIONS, TEST_PHOTOGRAPHS, MovingCrops, MovingCropsConfig
from i2v_core.files import atomic_path

FEATURES = 64
TEMPERATURE = 0.1
OFFSET = 20_000_000  # clips that no variant is trained on


class FrameNetwork(nn.Module):
    """Frames `n 3 h w` in [-1, 1] to features `n d`."""

    def __init__(self, operations: Any = nn) -> None:
        super().__init__()
        widths = (3, 32, 64, 128)
        self.layers = nn.ModuleList(operations.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.out = operations.Linear(widths[-1], FEATURES)

    def forward(self, frames: Tensor) -> Tensor:
        for layer in self.layers:
            frames = F.silu(layer(frames))
        return self.out(frames.mean((-2, -1)))


class ClipNetwork(nn.Module):
    """Clips `b 3 t h w` in [-1, 1] to features `b d` and scores of the motions `b m`."""

    def __init__(self, operations: Any = nn) -> None:
        super().__init__()
        widths = (6, 32, 64, 96)
        self.layers = nn.ModuleList(
            operations.Conv3d(a, b, 3, stride=(1, 2, 2), padding=1) for a, b in pairwise(widths)
        )
        self.hidden = operations.Linear(widths[-1], FEATURES)
        self.out = operations.Linear(FEATURES, len(MOTIONS))

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.cat([clips[:, :, 1:], clips.diff(dim=2)], dim=1)
        for layer in self.layers:
            h = F.silu(layer(h))
        features = self.hidden(h.mean((-3, -2, -1)))
        return features, self.out(F.silu(features))


@dataclass(frozen=True)
class Judge:
    """Both networks, trained."""

    frames: FrameNetwork
    clips: ClipNetwork

    @torch.inference_mode()
    def frame_features(self, clips: Tensor) -> Tensor:
        """Clips `b 3 t h w` to `b t d`."""
        return rearrange(self.frames(rearrange(clips, "b c t h w -> (b t) c h w")), "(b t) d -> b t d", b=len(clips))

    @torch.inference_mode()
    def clip_features(self, clips: Tensor) -> Tensor:
        """Clips `b 3 t h w` to `b d`."""
        return self.clips(clips)[0]


def get_judge(data: MovingCropsConfig, steps: int, path: Path, device: str) -> Judge:
    """The judge in `path`, or a new one that is written there with how well it names motions it never saw."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = nn.ModuleDict({"frames": FrameNetwork(), "clips": ClipNetwork()}).to(device)
    if path.exists():
        networks.load_state_dict(load_file(path))
    else:
        train(networks, data, steps)
        with atomic_path(path) as temporary:
            save_file(networks.state_dict(), temporary, {"accuracy": f"{accuracy(networks, data):.3f}"})
    networks.eval().requires_grad_(False)
    return Judge(networks["frames"], networks["clips"])  # type: ignore[arg-type]


def train(networks: nn.ModuleDict, data: MovingCropsConfig, steps: int, batch: int = 48) -> None:
    """Contrast frames of one clip with all others', and name the motion of clips under noise of any strength."""
    device = next(networks.parameters()).device
    source = MovingCrops(data)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(networks.parameters(), lr=2e-3, weight_decay=0.01)
    for step in range(steps):
        clips = [source.clip(OFFSET + step * batch + i) for i in range(batch)]
        pixels = torch.stack([clip.pixels for clip in clips])
        strength = 0.3 * torch.rand(batch, 1, 1, 1, 1, generator=generator)
        pixels = (pixels + strength * torch.randn(pixels.shape, generator=generator)).to(device)
        picks = torch.randint(data.frames, (2,), generator=generator).tolist()
        first, second = (F.normalize(networks["frames"](pixels[:, :, pick]), dim=-1) for pick in picks)
        same = torch.arange(batch, device=device)
        named = torch.tensor([MOTIONS.index(clip.motion) for clip in clips], device=device)
        loss = F.cross_entropy(first @ second.T / TEMPERATURE, same) + F.cross_entropy(
            networks["clips"](pixels)[1], named
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def accuracy(networks: nn.ModuleDict, data: MovingCropsConfig, clips: int = 210) -> float:
    """Share of true clips of held-out photographs whose motion is named rightly."""
    device = next(networks.parameters()).device
    source = MovingCrops(MovingCropsConfig(data.frames, data.size, seed=1, photographs=TEST_PHOTOGRAPHS))
    shown = [source.clip(i, MOTIONS[i % len(MOTIONS)]) for i in range(clips)]
    scores = networks["clips"](torch.stack([clip.pixels for clip in shown]).to(device))[1]
    named = torch.tensor([MOTIONS.index(clip.motion) for clip in shown], device=device)
    return (scores.argmax(1) == named).float().mean().item()
