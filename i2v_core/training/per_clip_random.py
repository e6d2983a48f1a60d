"""Random numbers of single clips: they depend on the run's seed and the clip's number, never on batch or process.

Two processes with a batch of one clip each therefore draw what one process draws for both, and a resumed run needs to
remember no random state.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PerClipRandom:
    """One source of numbers for each of `b` clips, on the CPU.

    Noise comes from a source of its own, so that methods which draw different numbers of drops see the same noise.

    Attributes:
        timestep: of all clips, where it is not drawn; nothing is dropped then either. None in training.
    """

    uniforms: tuple[torch.Generator, ...]
    normals: tuple[torch.Generator, ...]
    timestep: int | None = None

    @classmethod
    def of(cls, seed: int, items: Sequence[int], timestep: int | None = None) -> "PerClipRandom":
        """The sources of the clips with these numbers, at their start."""
        uniforms = tuple(_generator(f"uniform {seed} {item}") for item in items)
        return cls(uniforms, tuple(_generator(f"normal {seed} {item}") for item in items), timestep)

    def uniform(self) -> Tensor:
        """One number in [0, 1) for each clip, `b`."""
        return torch.cat([torch.rand(1, generator=generator) for generator in self.uniforms])

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normals of the shape of one clip, for each, `b *shape`."""
        return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in self.normals])


def _generator(name: str) -> torch.Generator:
    # The CPU's generator keeps 32 bits of a seed.
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))
