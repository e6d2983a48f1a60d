"""Chunked evaluation, some of the rows at a time: less memory at once, and on a CPU memory that stays in its caches.

With gradients everything is done at once, because a backward pass keeps all of it anyway.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# Elements of the largest activation per chunk: enough to fill a GPU, and few enough for the caches of a CPU, whose
# fresh memory also costs a page fault for every 4 KiB.
AT_ONCE = 2**25
AT_ONCE_CPU = 2**22
WIDEST = 4  # queries, keys, values and what they are made of, beside the features


def rows_per_chunk(x: Tensor, numbers: int) -> int:
    """Rows per chunk of so many elements each on the device of `x`; 1 at least."""
    if torch.is_grad_enabled():
        return max(1, x.numel())
    return max(1, (AT_ONCE_CPU if x.device.type == "cpu" else AT_ONCE) // numbers)


def chunk_slices(rows: int, at_once: int) -> Iterator[slice]:
    """Cut a number of rows into chunks."""
    return (slice(start, min(rows, start + at_once)) for start in range(0, rows, at_once))


def per_row(x: Tensor, rows: int) -> Tensor:
    """Repeat rows of clips, `b ...`, for their frames until there are so many rows, `(b t) ...`."""
    return x if len(x) == rows else x.repeat_interleave(rows // len(x), dim=0)


def chunked(function: Callable[..., Tensor], *features: Tensor) -> Tensor:
    """Apply a function of feature rows `n c h w` that do not see each other, to some of them at a time.

    Args:
        features: of `n` rows each; the first one says how many go through together.
    """
    first = features[0]
    at_once = rows_per_chunk(first, WIDEST * first[0].numel())
    if len(first) <= at_once:
        return function(*features)
    out: Tensor | None = None
    for chunk in chunk_slices(len(first), at_once):
        made = function(*(each[chunk] for each in features))
        if out is None:
            out = made.new_empty(len(first), *made.shape[1:]).contiguous(memory_format=torch.channels_last)
        out[chunk] = made
    assert out is not None
    return out
