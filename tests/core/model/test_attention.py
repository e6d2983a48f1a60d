"""Attention: the equations written out, the streams apart, and the limits of one call."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from i2v_core.model import attention as module
from i2v_core.model.attention import (
    Context,
    DualCrossAttention,
    FrameAttention,
    RelativePosition,
    RelativeSelfAttention,
    TemporalTransformer,
    TransformerBlock,
    scaled_dot_product_attention,
)
from i2v_core.model.video_unet import VideoUNet
from tests.core.weights.small import SMALL_DYNAMICRAFTER, largest_difference, seed
from tests.parity.seeded import seeded_normal

HEADS, HEAD_DIM, FEATURES, CONTEXT = 2, 4, 8, 6


def written_out(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention over `b n (h d)` without any library."""
    q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
    return rearrange(weights @ v, "b h n d -> b n (h d)")


def dual(gate: Any) -> DualCrossAttention:
    built = DualCrossAttention(FEATURES, CONTEXT, HEADS, HEAD_DIM, gate, scaled_dot_product_attention, operations=nn)
    return seed(built)


def attend(layer: DualCrossAttention, x: Tensor, text: Tensor, image: Tensor | None, frames: int) -> Tensor:
    return layer(x, Context(text, image, frames).streams(layer), frames)


def test_attention_is_the_softmax_of_scaled_products() -> None:
    q, k, v = (seeded_normal(name, (3, n, 8)) for name, n in (("q", 5), ("k", 7), ("v", 7)))
    assert largest_difference(scaled_dot_product_attention(q, k, v, 2), written_out(q, k, v, 2)) < 1e-6


def test_a_batch_beyond_the_limit_is_cut_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = module.MAX_ATTENTION_BATCH + 3
    q, k, v = (seeded_normal(name, (batch, 2, 4)) for name in "qkv")
    cut = scaled_dot_product_attention(q, k, v, 2)
    monkeypatch.setattr(module, "MAX_ATTENTION_BATCH", batch)
    assert largest_difference(cut, scaled_dot_product_attention(q, k, v, 2)) < 1e-6


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_relative_positions_equal_a_double_loop_over_frames(frames: int) -> None:
    reach = 2
    layer = seed(RelativeSelfAttention(FEATURES, HEADS, HEAD_DIM, reach, operations=nn))
    x = seeded_normal("x", (2, frames, FEATURES))
    q, k, v = (
        rearrange(project(x), "b t (h d) -> b h t d", h=HEADS) for project in (layer.to_q, layer.to_k, layer.to_v)
    )
    keys, values = (table.embeddings_table for table in (layer.relative_position_k, layer.relative_position_v))
    expected = torch.zeros_like(q)
    for i in range(frames):
        places = [max(-reach, min(reach, j - i)) + reach for j in range(frames)]
        logits = [(q[:, :, i] * (k[:, :, j] + keys[place])).sum(-1) / HEAD_DIM**0.5 for j, place in enumerate(places)]
        weights = torch.stack(logits, dim=-1).softmax(-1)
        for j, place in enumerate(places):
            expected[:, :, i] += weights[..., j, None] * (v[:, :, j] + values[place])
    assert (
        largest_difference(layer(x[:, :, None])[:, :, 0], layer.to_out(rearrange(expected, "b h t d -> b t (h d)")))
        < 1e-6
    )


def test_distances_beyond_the_reach_share_a_vector() -> None:
    vectors = seed(RelativePosition(3, 2))(6, torch.zeros(()))
    assert torch.equal(vectors[0, 2], vectors[0, 5])
    assert torch.equal(vectors[1, 2], vectors[4, 5])
    assert not torch.equal(vectors[0, 1], vectors[1, 0])


def test_text_and_image_are_two_streams_of_one_query() -> None:
    layer = dual("fixed")
    x, text, image = (seeded_normal(n, s) for n, s in (("x", (6, 5, 8)), ("text", (2, 7, 6)), ("im", (2, 3, 4, 6))))
    q, text_of_frame = layer.to_q(x), repeat(text, "b n d -> (b t) n d", t=3)
    streams = [
        written_out(q, layer.to_k(text_of_frame), layer.to_v(text_of_frame), HEADS),
        written_out(q, layer.to_k_ip(image.flatten(0, 1)), layer.to_v_ip(image.flatten(0, 1)), HEADS),
    ]
    assert largest_difference(attend(layer, x, text, image, 3), layer.to_out(sum(streams))) < 1e-6


def test_shared_image_tokens_are_the_same_tokens_for_every_frame() -> None:
    layer = dual("fixed")
    x, text, image = (seeded_normal(n, s) for n, s in (("x", (6, 5, 8)), ("text", (2, 7, 6)), ("im", (2, 4, 6))))
    every = repeat(image, "b k d -> b t k d", t=3)
    assert largest_difference(attend(layer, x, text, image, 3), attend(layer, x, text, every, 3)) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("alpha", [-30.0, 0.0, 0.7])
def test_the_learned_gate_weighs_the_image_by_tanh_alpha_plus_one(alpha: float) -> None:
    learned, fixed = dual("learned"), dual("fixed")
    learned.alpha.fill_(alpha)
    x, text, image = (seeded_normal(n, s) for n, s in (("x", (4, 5, 8)), ("text", (2, 7, 6)), ("im", (2, 3, 6))))
    only_text = attend(fixed, x, text, None, 2)
    expected = only_text + (math.tanh(alpha) + 1) * (attend(fixed, x, text, image, 2) - only_text)
    assert largest_difference(attend(learned, x, text, image, 2), expected) < 1e-6


def test_without_an_image_branch_image_tokens_change_nothing() -> None:
    layer = dual("none")
    x, text, image = (seeded_normal(n, s) for n, s in (("x", (4, 5, 8)), ("text", (2, 7, 6)), ("im", (2, 3, 6))))
    assert torch.equal(attend(layer, x, text, image, 2), attend(layer, x, text, None, 2))


def test_repeating_the_text_changes_nothing() -> None:
    layer = dual("none")
    x, text = seeded_normal("x", (2, 5, 8)), seeded_normal("text", (1, 7, 6))
    assert (
        largest_difference(attend(layer, x, text, None, 2), attend(layer, x, torch.cat([text, text], 1), None, 2))
        < 1e-6
    )


def temporal() -> TemporalTransformer:
    inner = [FrameAttention(32, 1, 32, attention=scaled_dot_product_attention, operations=nn) for _ in "12"]
    block = TransformerBlock(32, *inner, operations=nn)
    return seed(TemporalTransformer(32, 32, block, operations=nn))


def test_frames_have_no_order_in_a_temporal_transformer() -> None:
    layer, h = temporal(), seeded_normal("h", (4, 32, 3, 2))
    order = [2, 0, 3, 1]
    assert largest_difference(layer(h[order], 4), layer(h, 4)[order]) < 1e-5


def test_clips_do_not_see_each_other() -> None:
    layer, h = temporal(), seeded_normal("h", (6, 32, 3, 2))
    apart = torch.cat([layer(h[:3], 3), layer(h[3:], 3)])
    assert largest_difference(layer(h, 3), apart) < 1e-5


class MadeShapes(TorchDispatchMode):
    """Remembers the shape of every tensor that is made in it, views included."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.shapes |= {tuple(leaf.shape) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
        return result

    def holds_scores(self, tokens: int) -> bool:
        return any(shape[-2:] == (tokens, tokens) for shape in self.shapes)


@pytest.mark.parametrize(("attention", "expected"), [(scaled_dot_product_attention, False), (written_out, True)])
def test_the_network_never_holds_a_full_score_matrix(attention: Any, expected: bool) -> None:
    """Neither of one frame's positions nor of all frames' against themselves; a written-out attention is caught."""
    config, frames, h, w = replace(SMALL_DYNAMICRAFTER, context_dim=64), 2, 24, 20
    unet = seed(VideoUNet(config, attention=attention))
    x, text = torch.randn(1, 8, frames, h, w), torch.randn(1, 7, 64)
    tokens, fps = torch.randn(1, frames, 3, 64), torch.tensor([8.0])
    with torch.no_grad(), MadeShapes() as made:
        unet(x, torch.tensor([500.0]), text, image_tokens=tokens, fps=fps)
    assert made.holds_scores(h * w) is expected
    assert made.holds_scores(h * w // 4) is expected
    assert not made.holds_scores(frames * h * w)
