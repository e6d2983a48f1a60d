"""What other nodes patch into the host's U-Net (`transformer_options`), honored in ours by the same addresses.

The order of events and what a patch is told are those of `UNetModel` and `BasicTransformerBlock` of the host.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import comfy.ldm.modules.attention
import torch
from torch import Tensor

from ...i2v_core.methods import NetworkCall
from ...i2v_core.model.attention import Attention, KeysValues, TransformerBlock
from ...i2v_core.model.chunking import per_row
from ...i2v_core.model.seams import BlockAddress, Seams
from ..convert import clips_to_rows, rows_to_clips

PATCHES, REPLACED, OVERRIDE = "patches", "patches_replace", "optimized_attention_override"
ATTENTIONS = ("attn1", "attn2")
OF_TRANSFORMERS = (
    "attn1_patch", "attn1_output_patch", "middle_patch", "attn2_patch", "attn2_output_patch",
)  # fmt: skip
OF_BLOCKS = (
    "emb_patch", "input_block_patch", "input_block_patch_after_skip", "middle_block_after_patch", "output_block_patch",
)  # fmt: skip
PRECISION = torch.float32  # weights of the Stable Diffusion 2 family overflow half precision without a fused kernel


def host_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, **options: Any) -> Tensor:
    """The host's attention over `b n (heads d)`."""
    return comfy.ldm.modules.attention.optimized_attention(q, k, v, heads, attn_precision=PRECISION, **options)


def is_patched(options: Mapping[str, Any]) -> bool:
    """Whether other nodes ask for more than the plain network."""
    return bool(options.get(PATCHES) or options.get(REPLACED) or OVERRIDE in options)


def replaced_attentions(options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Tells calls apart in which nodes replace other attentions, as perturbed-attention guidance does."""
    replaced = options.get(REPLACED) or {}
    return tuple((name, *each, id(patch)) for name, sites in replaced.items() for each, patch in sites.items())


def not_honored(options: Mapping[str, Any]) -> list[str]:
    """Names of patches that no layer of our network asks for: those of other architectures."""
    patches = [name for name in options.get(PATCHES) or {} if name not in OF_TRANSFORMERS + OF_BLOCKS]
    return patches + [name for name in options.get(REPLACED) or {} if name not in ATTENTIONS]


class PatchWarnings:
    """Says once for each name what has no effect."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def tell(self, options: Mapping[str, Any]) -> None:
        for name in not_honored(options):
            if name not in self.told:
                self.told.add(name)
                logging.getLogger(__name__).warning(
                    f"Another node patches '{name}', which this video model does not have: it changes nothing here."
                )


class CallPatches:
    """The patches of one call of the network.

    Args:
        options: the host's `transformer_options`; patches are handed a copy, which is filled as the host fills it.
        rows: what the network was called with, `(n b t) c h w`.
        call: the same as the core's call.
        channels: of the first level.
        host_inputs: what else the patch after the middle block is told, the host's `timesteps` and `y`.
    """

    def __init__(
        self, options: Mapping[str, Any], rows: Tensor, call: NetworkCall, channels: int, **host_inputs: Any
    ) -> None:
        new = {"original_shape": list(rows.shape), "transformer_index": 0, "block_index": 0}
        self.options: dict[str, Any] = {**options, **new}
        self.patches: Mapping[str, Sequence[Callable[..., Any]]] = options.get(PATCHES) or {}
        self.replaced: Mapping[str, Mapping[Any, Callable[..., Tensor]]] = options.get(REPLACED) or {}
        self.frames, self.channels = call.x.shape[2], channels
        self.text = per_row(call.conditions.text, len(rows))
        self.told = {"x": rows, "context": self.text, **host_inputs}
        overridden = OVERRIDE in options
        self.attention = partial(host_attention, transformer_options=self.options) if overridden else host_attention
        self.size = rows.shape[-2:]

    def seams(self) -> Seams:
        """Where they enter; transformers that nobody patches are computed as without patches."""
        in_transformers = any(self.replaced.get(name) for name in ATTENTIONS) or any(
            self.patches.get(name) for name in OF_TRANSFORMERS
        )
        embedding = self.patches.get("emb_patch") or self.patches.get("middle_block_after_patch")
        return Seams(
            before_block=self.before_block,
            after_block=self.after_block if self.patches.get("input_block_patch") else None,
            embedding=self.embedding if embedding else None,
            attention=self.attention if OVERRIDE in self.options else None,
            stand_in=self.transformer_block if in_transformers else None,
        )

    def embedding(self, embedding: Tensor) -> Tensor:
        """Time embedding `b e`, after the patches `(b t) e`."""
        embedding = per_row(embedding, len(self.text))
        for patch in self.patches.get("emb_patch", ()):
            embedding = patch(embedding, self.channels, self.options)
        self.told["emb"] = embedding
        return embedding

    def before_block(self, address: BlockAddress, *features: Tensor) -> tuple[Tensor, ...]:
        """Finish the block before, and begin this one; with the skip for an output block."""
        # Copies: patches write into what they get, and the skip belongs to others, too.
        h, *skip = (clips_to_rows(each).contiguous() for each in features)
        block = self.options.get("block")
        # An output block that follows an input block begins with what a step cache kept.
        after_input = block is not None and block[0] == "input" and address.part != "output"
        if after_input and self.patches.get("input_block_patch_after_skip"):
            h = self._in_turn("input_block_patch_after_skip", h.clone())
        if block is not None and block[0] == "middle":
            for patch in self.patches.get("middle_block_after_patch", ()):
                h = patch({**self.told, "h": h.clone(), "transformer_options": self.options})["h"]
        self.options["block"] = (address.part, address.index)
        if skip:
            for patch in self.patches.get("output_block_patch", ()):
                h, skip[0] = patch(h.clone(), skip[0].clone(), self.options)
        self.size = h.shape[-2:]
        return tuple(rows_to_clips(each, self.frames) for each in (h, *skip))

    def after_block(self, h: Tensor, address: BlockAddress) -> Tensor:
        """`input_block_patch` on the output `b c t h w` of an input block."""
        if address.part != "input":
            return h
        return rows_to_clips(self._in_turn("input_block_patch", clips_to_rows(h).contiguous()), self.frames)

    def transformer_block(
        self, block: TransformerBlock, x: Tensor, streams: Sequence[KeysValues], frames: int
    ) -> Tensor:
        """Compute a spatial transformer's block on `(b t) n d` with what is patched in it."""
        attn1, attn2 = block.attn1, block.attn2
        assert isinstance(attn1, Attention) and isinstance(attn2, Attention)
        # input_blocks.1.1.transformer_blocks.0.attn2
        self.options["block_index"] = int(str(attn2.site).split(".")[-2])
        self.options["activations_shape"] = [len(x), x.shape[-1], *self.size]
        told = {name: value for name, value in self.options.items() if name not in (PATCHES, REPLACED)}
        told |= {"n_heads": attn1.heads, "dim_head": x.shape[-1] // attn1.heads, "attn_precision": PRECISION}

        plain: Callable[[Tensor], Tensor] = lambda n: attn1(n, self.attention)  # noqa: E731
        x = x + self._attend("attn1", attn1, block.norm1(x), None, plain, (), told)
        for patch in self.patches.get("middle_patch", ()):
            x = patch(x, told)
        plain = lambda n: attn2(n, streams, frames, self.attention)  # noqa: E731
        x = x + self._attend("attn2", attn2, block.norm2(x), self.text, plain, streams[1:], told)
        self.options["transformer_index"] += 1
        return block.feed_forward(x.contiguous())

    def _attend(
        self,
        name: str,
        layer: Attention,
        x: Tensor,
        context: Tensor | None,
        plain: Callable[[Tensor], Tensor],
        image_streams: Sequence[KeysValues],
        told: dict[str, Any],
    ) -> Tensor:
        """One attention from `(b t) n d` to itself or to context `(b t) m d`, and to the streams of images."""
        sources, instead = self.patches.get(f"{name}_patch", ()), self._replacement(name)
        if not sources and instead is None:
            out = plain(x)
        else:
            context = x if context is None else context
            value: Tensor | None = context
            for patch in sources:
                x, context, value = patch(x, context, value, told)
            q, k, v = layer.to_q(x), layer.to_k(context), layer.to_v(context if value is None else value)
            out = self.attention(q, k, v, layer.heads) if instead is None else instead(q, k, v, told)
            for stream in image_streams:
                out = out + stream.for_rows(len(q)).attend(q, self.frames, layer.heads, self.attention)
            out = layer.to_out(out)
        for patch in self.patches.get(f"{name}_output_patch", ()):
            out = patch(out, told)
        return out

    def _replacement(self, name: str) -> Callable[..., Tensor] | None:
        """What replaces this attention here: for one transformer of the block, or for all."""
        sites, block = self.replaced.get(name) or {}, self.options["block"]
        return sites.get((*block, self.options["block_index"])) or sites.get(block)

    def _in_turn(self, name: str, h: Tensor) -> Tensor:
        for patch in self.patches.get(name, ()):
            h = patch(h, self.options)
        return h
