"""The least that a network's step could cost here: operations over the matrix rate, bytes over the bandwidth."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from i2v_core.model.attention import FeedForward


@dataclass(frozen=True)
class Floor:
    """What a step cannot do without."""

    operations: int
    weights: int  # bytes, each read once
    activation: int  # bytes of the largest necessary activation

    def seconds(self, matrix_rate: float, read_rate: float) -> float:
        return max(self.operations / matrix_rate, self.weights / read_rate)


def weight_bytes(network: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def floor_of(unet: nn.Module, step: Callable[[], object]) -> Floor:
    """Count one step of a U-Net, best on the meta device."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        step()
    return Floor(counter.get_total_flops(), weight_bytes(unet), necessary_activation(unet, step))


def necessary_activation(unet: nn.Module, step: Callable[[], object]) -> int:
    """Bytes of the largest layer's input and output, with the skips that wait at that time.

    The hidden layer of a feed-forward is not necessary, because it can be computed for a part of the tokens at a time.
    """
    skips: list[int] = []
    largest = 0

    def after_layer(_: nn.Module, given: tuple[object, ...], made: Tensor) -> None:
        nonlocal largest
        largest = max(largest, sum(skips) + size_of(given) + size_of(made))

    hidden = {id(each) for ff in unet.modules() if isinstance(ff, FeedForward) for each in ff.modules()}
    layers = [each for each in unet.modules() if not list(each.children()) and id(each) not in hidden]
    hooks = [layer.register_forward_hook(after_layer) for layer in layers]
    hooks += [block.register_forward_hook(lambda _, __, h: skips.append(size_of(h))) for block in unet.input_blocks]
    hooks += [block.register_forward_pre_hook(lambda *_: drop(skips)) for block in unet.output_blocks]
    try:
        with torch.no_grad():
            step()
    finally:
        for hook in hooks:
            hook.remove()
    return largest


def drop(skips: list[int]) -> None:
    """Without a result, which a hook would hand on."""
    skips.pop()


def size_of(tree: object) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
