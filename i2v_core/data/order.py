"""The order of the clips: every pass shuffled anew, items of one group from one bucket."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from .clip import integer, seeded

Size = tuple[int, int]


def bucket_sizes(height: int, width: int, step: int, largest_ratio: float = 2.0) -> tuple[Size, ...]:
    """Sizes (height, width) in multiples of `step` with at most `height` times `width` pixels, for all aspect ratios.

    Raises ValueError if not even the square of one step is small enough.
    """
    area, sizes = height * width, set()
    for side in range(step, int(math.sqrt(area * largest_ratio)) + 1, step):
        other = area // side // step * step
        if other and 1 / largest_ratio <= other / side <= largest_ratio:
            sizes |= {(side, other), (other, side)}
    if not sizes:
        raise ValueError(f"no bucket in steps of {step} fits into {height}x{width} pixels: lower data.bucket_step")
    return tuple(sorted(sizes))


def nearest_size(height: int, width: int, sizes: Sequence[Size]) -> Size:
    """The size with the nearest aspect ratio; of equals the largest."""
    ratio = math.log(height / width)
    return min(sizes, key=lambda size: (round(abs(math.log(size[0] / size[1]) - ratio), 6), -size[0] * size[1]))


class Order:
    """The order in which items go through the clips.

    In a pass, each bucket's clips are shuffled and dealt into groups; a last group that is not full takes clips of its
    bucket a second time. Then the groups of all buckets are shuffled.

    Args:
        buckets: numbers of the clips of each.
        group: how many consecutive items are of one bucket.
    """

    def __init__(self, buckets: Sequence[Sequence[int]], group: int, seed: int) -> None:
        if group < 1 or not any(buckets):
            raise ValueError(
                f"expected clips and groups of at least one, got {len(buckets)} buckets, groups of {group}"
            )
        self.buckets = [torch.tensor(bucket) for bucket in buckets if bucket]
        self.group, self.seed = group, seed

    def __len__(self) -> int:
        """Items in a pass."""
        return self.group * sum(-(-len(bucket) // self.group) for bucket in self.buckets)

    def place(self, item: int) -> int:
        """The clip of an item."""
        around, position = divmod(item, len(self))
        return int(_pass(self, around)[position])

    def instead(self, item: int, attempt: int) -> int:
        """Another clip of the same bucket, for an item whose file cannot be read."""
        clip = self.place(item)
        bucket = next(bucket for bucket in self.buckets if clip in bucket)
        return int(bucket[integer(seeded(self.seed, "instead", item, attempt), len(bucket))])


# A pass over ten million clips takes 80 MB; two are kept, because workers run ahead into the next one.
@lru_cache(maxsize=2)
def _pass(order: Order, number: int) -> Tensor:
    generator = seeded(order.seed, "pass", number)
    groups = []
    for bucket in order.buckets:
        shuffled = bucket[torch.randperm(len(bucket), generator=generator)]
        full = -(-len(bucket) // order.group) * order.group
        groups.append(shuffled.repeat(-(-full // len(bucket)))[:full].reshape(-1, order.group))
    dealt = torch.cat(groups)
    return dealt[torch.randperm(len(dealt), generator=generator)].reshape(-1)
