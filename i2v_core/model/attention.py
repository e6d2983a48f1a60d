"""Spatial and temporal transformers of the video U-Net (LVDM names), with dual cross-attention.

DynamiCrafter (arXiv:2310.12190), section 3.2, equation 4: text and image tokens are two streams with one query.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .chunking import WIDEST, chunk_slices, per_row, rows_per_chunk

AttentionFunction = Callable[..., Tensor]
ImageGate = Literal["none", "fixed", "learned"]

# CUDA's fused kernels launch one block per batch entry and refuse more than 65535; the host uses the same limit.
MAX_ATTENTION_BATCH = 2**15
MAX_ATTENTION_HEADS = 2**16 - 1


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, **_: Any) -> Tensor:
    """Multi-head attention over `b n (heads d)` tensors; the default of every transformer here."""
    q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (q, k, v))
    if q.shape[0] <= MAX_ATTENTION_BATCH:
        out = F.scaled_dot_product_attention(q, k, v)
    else:
        parts = zip(*(torch.split(x, MAX_ATTENTION_BATCH) for x in (q, k, v)), strict=True)
        out = torch.cat([F.scaled_dot_product_attention(*part) for part in parts])
    return rearrange(out, "b h n d -> b n (h d)")


class RelativePosition(nn.Module):
    """A learned vector for each clipped distance between two frames (VideoCrafter 1)."""

    def __init__(self, features: int, max_distance: int, **factory: Any) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.embeddings_table = nn.Parameter(torch.empty(2 * max_distance + 1, features, **factory))

    def forward(self, frames: int, like: Tensor) -> Tensor:
        """Vectors for every (query frame, key frame), `t t d`, on the device and in the dtype of `like`."""
        index = torch.arange(frames, device=like.device)
        distance = (index[None, :] - index[:, None]).clamp(-self.max_distance, self.max_distance)
        return self.embeddings_table.to(like)[distance + self.max_distance]


class Attention(nn.Module):
    """Query, key and value projections around an injected attention function; subclasses add their streams."""

    def __init__(
        self, features: int, context_features: int, heads: int, head_dim: int, operations: Any, **factory: Any
    ) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.to_q = operations.Linear(features, inner, bias=False, **factory)
        self.to_k = operations.Linear(context_features, inner, bias=False, **factory)
        self.to_v = operations.Linear(context_features, inner, bias=False, **factory)
        self.to_out = nn.Sequential(operations.Linear(inner, features, **factory))


class SelfAttention(Attention):
    """Every token attends to every token of its own row."""

    def __init__(self, features: int, heads: int, head_dim: int, attention: AttentionFunction, **kw: Any) -> None:
        super().__init__(features, features, heads, head_dim, **kw)
        self.attention = attention

    def forward(self, x: Tensor, attention: AttentionFunction | None = None) -> Tensor:
        """Attend within `b n d`; an attention function of this call takes the place of the layer's own."""
        return self.to_out((attention or self.attention)(self.to_q(x), self.to_k(x), self.to_v(x), self.heads))


class FrameAttention(SelfAttention):
    """Every token of `b t p c` attends to those of its position `p` in all frames.

    Positions stand beside the heads, where they need no transposition.
    """

    def forward(self, x: Tensor, attention: AttentionFunction | None = None) -> Tensor:
        q, k, v = (project(x).flatten(2) for project in (self.to_q, self.to_k, self.to_v))
        width = q.shape[-1] // (x.shape[2] * self.heads)
        at_once = max(1, MAX_ATTENTION_HEADS // self.heads) * self.heads * width
        parts = [
            (attention or self.attention)(*part, part[0].shape[-1] // width)
            for part in zip(*(each.split(at_once, dim=-1) for each in (q, k, v)), strict=True)
        ]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return self.to_out(rearrange(out, "b t (p c) -> b t p c", p=x.shape[2]))


class RelativeSelfAttention(Attention):
    """Self-attention over frames with relative positions in keys and values (VideoCrafter 1), on `b t p c`.

    The value term needs the probabilities themselves, so this path is written out; the number of frames is small.
    """

    def __init__(
        self, features: int, heads: int, head_dim: int, max_distance: int, operations: Any, **factory: Any
    ) -> None:
        super().__init__(features, features, heads, head_dim, operations=operations, **factory)
        self.relative_position_k = RelativePosition(head_dim, max_distance, **factory)
        self.relative_position_v = RelativePosition(head_dim, max_distance, **factory)

    def forward(self, x: Tensor, _: AttentionFunction | None = None) -> Tensor:
        q, k, v = (
            rearrange(project(x), "b t p (h d) -> (b p) h t d", h=self.heads)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        q = q * q.shape[-1] ** -0.5
        position_k = self.relative_position_k(x.shape[1], q)
        position_v = self.relative_position_v(x.shape[1], q)
        logits = q @ k.transpose(-1, -2) + torch.einsum("bhqd,qkd->bhqk", q, position_k)
        probabilities = logits.softmax(dim=-1)
        out = probabilities @ v + torch.einsum("bhqk,qkd->bhqd", probabilities, position_v)
        return self.to_out(rearrange(out, "(b p) h t d -> b t p (h d)", p=x.shape[2]))


@dataclass(frozen=True)
class KeysValues:
    """Keys and values `n m d` of one stream of tokens, with the weight of what is found there.

    They stand for every frame of every clip, or for every clip, whose frames share them.
    """

    keys: Tensor
    values: Tensor
    per_frame: bool = False
    weight: Tensor | None = None

    def of(self, rows: slice, frames: int) -> "KeysValues":
        """Those of some frames of one clip, out of clips of so many frames."""
        clip = rows.start // frames
        part = rows if self.per_frame else slice(clip, clip + 1)
        return replace(self, keys=self.keys[part], values=self.values[part])

    def for_rows(self, rows: int) -> "KeysValues":
        """The same, repeated until each of so many rows of queries has its own."""
        keys, values = per_row(self.keys, rows), per_row(self.values, rows)
        return replace(self, keys=keys, values=values, per_frame=True)

    def attend(self, q: Tensor, frames: int, heads: int, attention: AttentionFunction) -> Tensor:
        """Attend from queries `(b t) n d`."""
        if self.per_frame:
            out = attention(q, self.keys, self.values, heads)
        else:  # fold the frames into the queries instead of repeating the keys
            out = attention(rearrange(q, "(b t) n d -> b (t n) d", t=frames), self.keys, self.values, heads)
            out = rearrange(out, "b (t n) d -> (b t) n d", t=frames)
        return out if self.weight is None else self.weight * out


KnownStreams = dict[str, Sequence[KeysValues]]  # by the sites of their cross-attentions


class ImageStream(nn.Module):
    """The image half of a dual cross-attention (DynamiCrafter, equation 4), by the checkpoints' names.

    The image gate is absent (`none`), one (`fixed`) or `tanh(alpha) + 1` (`learned`).
    """

    def add_image_layers(
        self, context_dim: int, inner: int, image_gate: ImageGate, operations: Any, **factory: Any
    ) -> None:
        self.image_gate = image_gate
        if image_gate != "none":
            self.to_k_ip = operations.Linear(context_dim, inner, bias=False, **factory)
            self.to_v_ip = operations.Linear(context_dim, inner, bias=False, **factory)
        if image_gate == "learned":
            self.alpha = nn.Parameter(torch.empty((), **factory))

    def image_keys_values(self, image_tokens: Tensor) -> KeysValues:
        """Of image tokens `b t k d` (per frame) or `b k d` (shared)."""
        per_frame = image_tokens.ndim == 4
        tokens = image_tokens.flatten(0, 1) if per_frame else image_tokens
        weight = self.alpha.to(tokens).tanh() + 1 if self.image_gate == "learned" else None
        return KeysValues(self.to_k_ip(tokens), self.to_v_ip(tokens), per_frame, weight)


class DualCrossAttention(Attention, ImageStream):
    """Attend to text tokens and, with the same queries, to image tokens (DynamiCrafter, equation 4).

    `site` is its name in the network, by which an adapter adds an image stream where the checkpoint has none.
    """

    def __init__(
        self,
        features: int,
        context_dim: int,
        heads: int,
        head_dim: int,
        image_gate: ImageGate,
        attention: AttentionFunction,
        operations: Any,
        **factory: Any,
    ) -> None:
        super().__init__(features, context_dim, heads, head_dim, operations=operations, **factory)
        self.attention, self.inner, self.site = attention, heads * head_dim, ""
        self.add_image_layers(context_dim, self.inner, image_gate, operations, **factory)

    def forward(
        self, x: Tensor, streams: Sequence[KeysValues], frames: int, attention: AttentionFunction | None = None
    ) -> Tensor:
        """Attend from `(b t) n d` to what `Context.streams` gives."""
        q, attention = self.to_q(x), attention or self.attention
        first, *others = (stream.attend(q, frames, self.heads, attention) for stream in streams)
        for other in others:
            first = first + other
        return self.to_out(first)


@dataclass(frozen=True)
class Context:
    """Keys and values of the cross-attentions' context, the same for every diffusion step.

    Attributes:
        text: tokens, `b n d`.
        image_tokens: `b t k d` (per frame) or `b k d` (shared).
        added: an adapter's image streams, by the sites of the cross-attentions that have none of their own.
        known: keys and values that earlier steps found, by site; None forgets them.
        attention: of this call, in the place of the layers' own attention function.
        stand_in: computes the blocks of spatial transformers in their place.
    """

    text: Tensor
    image_tokens: Tensor | None
    frames: int
    added: Mapping[str, ImageStream] | None = None
    known: KnownStreams | None = None
    attention: AttentionFunction | None = None
    stand_in: "TransformerStandIn | None" = None

    def streams(self, layer: DualCrossAttention) -> Sequence[KeysValues]:
        """Text, then the image if there are tokens and the layer or an adapter can see them."""
        if self.known is not None and layer.site in self.known:
            return self.known[layer.site]
        found = [KeysValues(layer.to_k(self.text), layer.to_v(self.text))]
        image = (self.added or {}).get(layer.site) if layer.image_gate == "none" else layer
        if self.image_tokens is not None and image is not None:
            found.append(image.image_keys_values(self.image_tokens))
        if self.known is not None:
            self.known[layer.site] = found
        return found


class GEGLU(nn.Module):
    """Linear layer whose first half is gated by the exact GELU of its second half."""

    def __init__(self, in_features: int, out_features: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.proj = operations.Linear(in_features, 2 * out_features, **factory)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return F.gelu(gate).mul_(value)


class FeedForward(nn.Module):
    """GEGLU feed-forward of four times the width; `net.1` is the reference's dropout, inert here."""

    def __init__(self, features: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.net = nn.Sequential(
            GEGLU(features, 4 * features, operations, **factory),
            nn.Identity(),
            operations.Linear(4 * features, features, **factory),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Two attentions and a feed-forward, each after a layer norm and added to its input."""

    def __init__(self, features: int, attn1: nn.Module, attn2: nn.Module, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm1 = operations.LayerNorm(features, **factory)
        self.attn1 = attn1
        self.norm2 = operations.LayerNorm(features, **factory)
        self.attn2 = attn2
        self.norm3 = operations.LayerNorm(features, **factory)
        self.ff = FeedForward(features, operations, **factory)

    def forward(self, x: Tensor, *context: Any, attention: AttentionFunction | None = None) -> Tensor:
        x = self.attn1(self.norm1(x), attention).add_(x)
        x = self.attn2(self.norm2(x), *context, attention).add_(x)
        return self.feed_forward(x)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The last third; without gradients it overwrites `x`."""
        if torch.is_grad_enabled():
            return x + self.ff(self.norm3(x))
        # The hidden layer is the widest tensor of the network.
        tokens = x.view(-1, x.shape[-1])
        for part in chunk_slices(len(tokens), rows_per_chunk(tokens, 8 * x.shape[-1])):
            tokens[part].add_(self.ff(self.norm3(tokens[part])))
        return x


# (block, tokens `(b t) n d`, streams of its cross-attention, frames) -> tokens
TransformerStandIn = Callable[[TransformerBlock, Tensor, Sequence[KeysValues], int], Tensor]


class Transformer(nn.Module):
    """Group norm and linear projections around transformer blocks; subclasses choose the tokens."""

    def __init__(
        self,
        channels: int,
        inner: int,
        block: TransformerBlock,
        operations: Any,
        norm_groups: int = 32,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.norm = operations.GroupNorm(norm_groups, channels, eps=1e-6, **factory)
        self.proj_in = operations.Linear(channels, inner, **factory)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = operations.Linear(inner, channels, **factory)

    def transform(
        self,
        tokens: Tensor,
        *context: Any,
        attention: AttentionFunction | None = None,
        stand_in: TransformerStandIn | None = None,
    ) -> Tensor:
        """Project in, run the blocks, project out: `b n c` to `b n c`."""
        tokens = self.proj_in(tokens)
        for block in self.transformer_blocks:
            if stand_in is not None:
                tokens = stand_in(cast(TransformerBlock, block), tokens, *context)
            else:
                tokens = block(tokens, *context, attention=attention)
        return self.proj_out(tokens)


class SpatialTransformer(Transformer):
    """Attention over the positions of each frame, then to text and image tokens."""

    def forward(self, h: Tensor, context: Context) -> Tensor:
        """Transform `(b t) c h w`."""
        cross_attention = cast(DualCrossAttention, self.transformer_blocks[0].attn2)
        streams, frames = context.streams(cross_attention), context.frames
        if context.stand_in is not None:  # it sees all rows together
            return h + self._transform_frames(h, streams, frames, stand_in=context.stand_in)
        at_once = rows_per_chunk(h, WIDEST * h[0].numel())
        if len(h) <= at_once:
            return h + self._transform_frames(h, streams, frames, attention=context.attention)
        out = torch.empty_like(h)
        for start in range(0, len(h), frames):
            for part in chunk_slices(frames, at_once):
                rows = slice(start + part.start, start + part.stop)
                seen = [stream.of(rows, frames) for stream in streams]
                transformed = self._transform_frames(h[rows], seen, len(h[rows]), attention=context.attention)
                out[rows] = transformed.add_(h[rows])
        return out

    def _transform_frames(self, h: Tensor, *context: Any, **functions: Any) -> Tensor:
        # In one expression, so that nothing holds on to the normalized features.
        tokens = self.transform(rearrange(self.norm(h), "bt c h w -> bt (h w) c"), *context, **functions)
        return rearrange(tokens, "bt (h w) c -> bt c h w", h=h.shape[-2])


class TemporalTransformer(Transformer):
    """Attention over the frames of each position; its group norm sees all frames together."""

    def forward(self, h: Tensor, frames: int, attention: AttentionFunction | None = None) -> Tensor:
        normalized = self.norm(rearrange(h, "(b t) c h w -> b c t h w", t=frames))
        tokens = rearrange(normalized, "b c t h w -> b t (h w) c")
        at_once = rows_per_chunk(h, WIDEST * tokens[:, :, 0].numel())
        if tokens.shape[2] <= at_once:
            del normalized
            transformed = self.transform(tokens, attention=attention)
            return h + rearrange(transformed, "b t (h w) c -> (b t) c h w", h=h.shape[-2])
        before = rearrange(h, "(b t) c h w -> b t (h w) c", t=frames)
        out = h.new_empty(before.shape)
        for part in chunk_slices(tokens.shape[2], at_once):
            out[:, :, part] = self.transform(tokens[:, :, part], attention=attention).add_(before[:, :, part])
        return rearrange(out, "b t (h w) c -> (b t) c h w", h=h.shape[-2])
