"""Step caching: deep blocks of a video U-Net answer for several diffusion steps while its first blocks change little.

What is kept is the feature that enters the last output blocks, as in DeepCache (arXiv:2312.00858); the outer blocks are
computed at every step. When to compute the rest anew is decided by an error, as in TeaCache (arXiv:2411.19108): the
relative changes of the outer input blocks' output are summed up from step to step.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class StepCacheConfig:
    """Limits on the change of the outer blocks' output before the deep blocks are computed anew.

    Attributes:
        bound: sum of relative changes since the last full step; 0 computes every step.
        outer: input blocks, and as many output blocks, that are computed at every step.
    """

    bound: float = 0.0
    outer: int = 1

    def __post_init__(self) -> None:
        if self.bound < 0 or self.outer < 1:
            raise ValueError(f"bound must be 0 or more and outer 1 or more, got {self.bound} and {self.outer}")


@dataclass
class BranchCache:
    """Cached features of one guidance branch during one sampling run, `(b t) c h w`.

    Deciding reads one number from the device at every step.
    """

    config: StepCacheConfig
    timestep: float = float("inf")
    outer: Tensor | None = None
    deep: Tensor | None = None
    changed: float = 0.0
    reused: int = 0
    computed: int = 0

    def recall(self, h: Tensor, timesteps: Tensor) -> Tensor | None:
        """The deep feature to go on with, or None if it has to be computed.

        Args:
            h: output of the outer input blocks.
            timesteps: `b`; a later one than before begins anew, as samplers do that go back.
        """
        before, timestep = self.outer, timesteps.max().item()
        back, self.timestep, self.outer = timestep > self.timestep, timestep, h
        if before is None or back or before.shape != h.shape:
            self.deep = None
        else:
            self.changed += ((h - before).abs().mean() / before.abs().mean()).item()
        if self.deep is not None and self.changed < self.config.bound:
            self.reused += 1
            return self.deep
        self.changed, self.deep = 0.0, None
        self.computed += 1
        return None

    def keep(self, deep: Tensor) -> None:
        """Remember the deep feature of a full step."""
        self.deep = deep


@dataclass
class StepCache:
    """The branches of one sampling run; every run takes a new one, so that no feature outlives its weights."""

    config: StepCacheConfig
    branches: dict[Hashable, BranchCache] = field(default_factory=dict)

    def branch(self, key: Hashable) -> BranchCache:
        """The cache of a batch of guidance branches, told apart by a key that stays through the run."""
        return self.branches.setdefault(key, BranchCache(self.config))

    @property
    def reused(self) -> int:
        return sum(branch.reused for branch in self.branches.values())

    @property
    def computed(self) -> int:
        return sum(branch.computed for branch in self.branches.values())
