"""The video U-Net of the LVDM family, with image models as its case without temporal layers.

One graph serves SD 1.5 / 2.1, VideoCrafter, DynamiCrafter (arXiv:2310.12190), ToonCrafter, ModelScope T2V and our own
models; `VideoUNetConfig` holds all that differs between them. Parameter names are those of the LVDM checkpoints.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import (
    AttentionFunction,
    Context,
    DualCrossAttention,
    FrameAttention,
    ImageGate,
    KnownStreams,
    RelativeSelfAttention,
    SelfAttention,
    SpatialTransformer,
    TemporalTransformer,
    TransformerBlock,
    scaled_dot_product_attention,
)
from .blocks import Block, Downsample, LayerInputs, ResBlock, Upsample, to_frames
from .chunking import per_row
from .embeddings import embedding_mlp, sinusoidal_embedding
from .image_projection import resample_image_tokens
from .seams import BlockAddress, Residuals, Seams, call_after, call_before
from .step_cache import BranchCache

INIT_ATTENTION_HEADS = 8  # wired into every LVDM checkpoint, whatever its width


@dataclass(frozen=True)
class VideoUNetConfig:
    """Configuration of the checkpoints that share this graph; the defaults are ModelScope T2V's."""

    in_channels: int = 4
    out_channels: int = 4
    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = (0, 1, 2)
    num_heads: int | None = None  # SD 1.5: 8; otherwise heads have `head_dim` features
    head_dim: int = 64
    context_dim: int = 1024
    temporal_convolution: bool = True
    temporal_attention: bool = True
    init_attention: bool = True
    relative_position: int | None = None  # largest distance; VideoCrafter 1: 16
    image_gate: ImageGate = "none"
    image_token_layout: Literal["per_frame", "shared"] = "per_frame"
    fps_embedding: bool = False
    default_fps: int = 24
    pooled_text_dim: int | None = None  # our own models only
    norm_groups: int = 32  # our own: in narrow layers groups of one or two channels erase what is the same everywhere

    @property
    def embedding_features(self) -> int:
        return 4 * self.model_channels

    @property
    def image_channels(self) -> int:
        """Input channels for the given image's latent."""
        return self.in_channels - self.out_channels

    @property
    def is_temporal(self) -> bool:
        """Frames meet in temporal layers; an image model has none."""
        return self.temporal_convolution or self.temporal_attention or self.init_attention

    def heads(self, channels: int) -> tuple[int, int]:
        """Number and width of the attention heads at `channels` channels."""
        count = self.num_heads or max(1, channels // self.head_dim)
        return count, channels // count


class VideoEncoder(nn.Module):
    """The embeddings, input blocks and middle block: half a U-Net, or the side branch of one.

    Args:
        config: which member of the family.
        operations: namespace of layer classes; the host passes its own, which cast and offload weights.
        attention: `(q, k, v, heads) -> out` over `b n (heads d)`.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        config: VideoUNetConfig,
        *,
        operations: Any = nn,
        attention: AttentionFunction = scaled_dot_product_attention,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.dtype = dtype or torch.float32
        self.gradient_checkpointing = False
        self.skip_channels = self.build(LayerFactory(config, operations, attention, {"device": device, "dtype": dtype}))
        for name, module in self.named_modules():
            if isinstance(module, DualCrossAttention):
                module.site = name

    def build(self, layers: "LayerFactory") -> tuple[int, ...]:
        """Make the layers; return the channels of the skips."""
        config = self.config
        width, features = config.model_channels, config.embedding_features

        self.time_embed = layers.mlp(width, features)
        if config.fps_embedding:
            self.fps_embedding = layers.mlp(width, features)
        if config.pooled_text_dim is not None:
            self.label_emb = nn.Sequential(layers.mlp(config.pooled_text_dim, features))

        self.input_blocks = nn.ModuleList([Block([layers.convolution(config.in_channels, width)])])
        if config.init_attention:
            self.init_attn = Block([layers.init_attention(width)])
        skips, channels, last = [width], width, len(config.channel_mult) - 1
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                self.input_blocks.append(Block(layers.level(level, channels, mult * width)))
                channels = mult * width
                skips.append(channels)
            if level != last:
                self.input_blocks.append(Block([layers.downsample(channels)]))
                skips.append(channels)

        self.middle_block = Block(layers.middle(channels))
        return tuple(skips)

    def encode(
        self,
        x: Tensor,
        timesteps: Tensor,
        text: Tensor,
        *,
        image_tokens: Tensor | None = None,
        fps: Tensor | None = None,
        pooled_text: Tensor | None = None,
        seams: Seams | None = None,
        reuse: BranchCache | None = None,
        known: KnownStreams | None = None,
    ) -> tuple[list[Tensor], Tensor, LayerInputs]:
        """Run the first half; arguments as of `VideoUNet.forward`.

        Returns:
            The skips and the middle block's output, `(b t) c h w`, and what every layer could read. With `reuse`
            perhaps only the outer skips, and the feature that the output blocks beside them begin with.
        """
        frames = x.shape[2]
        if image_tokens is not None and image_tokens.ndim == 4:
            image_tokens = resample_image_tokens(image_tokens, frames)
        seams = seams or Seams()
        context = Context(text, image_tokens, frames, seams.image_streams, known, seams.attention, seams.stand_in)
        inputs = LayerInputs(self._embed(timesteps, fps, pooled_text, x, seams.embedding), context)
        added = seams.residuals or Residuals()

        h = to_frames(x)
        skips = []
        for i, block in enumerate(self.input_blocks):
            (h,) = call_before(seams.before_block, BlockAddress("input", i), frames, h)
            h = self._run(block, h, inputs)
            if i == 0 and seams.hint is not None:
                h = h + repeat(seams.hint, "b c h w -> (b t) c h w", t=frames)
            if i == 0 and self.config.init_attention:
                h = self._run(self.init_attn, h, inputs)
            h = call_after(seams.after_block, h, BlockAddress("input", i), frames)
            skips.append(_add(h, added.skips[i] if i < len(added.skips) else None))
            if reuse is not None and len(skips) == reuse.config.outer:
                deep = reuse.recall(h, timesteps)
                if deep is not None:
                    return skips, deep, inputs

        (h,) = call_before(seams.before_block, BlockAddress("middle", 0), frames, h)
        h = self._run(self.middle_block, h, inputs)
        h = _add(call_after(seams.after_block, h, BlockAddress("middle", 0), frames), added.middle)
        return skips, h, inputs

    def _embed(
        self,
        timesteps: Tensor,
        fps: Tensor | None,
        pooled_text: Tensor | None,
        x: Tensor,
        change: Callable[[Tensor], Tensor] | None,
    ) -> Tensor:
        width = self.config.model_channels
        embedding = self.time_embed(sinusoidal_embedding(timesteps, width).to(x.dtype))
        if change is not None:
            embedding = change(embedding)
        if self.config.fps_embedding:
            if fps is None:
                fps = torch.full_like(timesteps, self.config.default_fps)
            of_rate = self.fps_embedding(sinusoidal_embedding(fps, width).to(x.dtype))
            embedding = embedding + per_row(of_rate, len(embedding))
        if self.config.pooled_text_dim is not None:
            if pooled_text is None:
                raise ValueError("this model needs pooled_text, `b d`, besides the text tokens; got None")
            embedding = embedding + per_row(self.label_emb(pooled_text), len(embedding))
        return embedding

    def _run(self, block: nn.Module, h: Tensor, inputs: LayerInputs) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, h, inputs, use_reentrant=False)
        return block(h, inputs)


class VideoUNet(VideoEncoder):
    """Predict noise, velocity or the clean clip from a noised one; built as its first half is."""

    def build(self, layers: "LayerFactory") -> tuple[int, ...]:
        config, skips = self.config, super().build(layers)
        left, channels, width = list(skips), skips[-1], config.model_channels
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for i in range(config.num_res_blocks + 1):
                block = layers.level(level, channels + left.pop(), mult * width)
                channels = mult * width
                if level and i == config.num_res_blocks:
                    block.append(layers.upsample(channels))
                self.output_blocks.append(Block(block))

        self.out = layers.output(channels)
        return skips

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        text: Tensor,
        *,
        image_tokens: Tensor | None = None,
        fps: Tensor | None = None,
        pooled_text: Tensor | None = None,
        seams: Seams | None = None,
        reuse: BranchCache | None = None,
        known: KnownStreams | None = None,
    ) -> Tensor:
        """Run the network once.

        Args:
            x: noised latents, with the given image's latent concatenated if the model has channels for it, `b c t h w`.
            timesteps: in [0, 1000), `b`.
            text: `b n d`.
            image_tokens: for every frame `b t k d`, or shared by all `b k d`; another number of frames than the
                clip's is resampled linearly over time.
            fps: frames per second or frame stride, as the checkpoint means it, `b`; None takes the default.
            pooled_text: `b d`, for models that have it.
            seams: what methods and ControlNets add.
            reuse: what this guidance branch remembers of the steps before, where deep blocks may be left out.
            known: keys and values of text and image tokens, filled at the first step, read at later ones on the same.

        Returns:
            The prediction, `b c t h w`.
        """
        seams = seams or Seams()
        skips, h, inputs = self.encode(
            x, timesteps, text, image_tokens=image_tokens, fps=fps, pooled_text=pooled_text, seams=seams, reuse=reuse,
            known=known,
        )  # fmt: skip
        for i, block in list(enumerate(self.output_blocks))[-len(skips) :]:
            if reuse is not None and len(skips) == reuse.config.outer:
                reuse.keep(h)
            address, frames = BlockAddress("output", i), inputs.context.frames
            h = torch.cat(call_before(seams.before_block, address, frames, h, skips.pop()), dim=1)
            height, width = (skips[-1] if skips else h).shape[-2:]
            h = self._run(block, h, replace(inputs, size=(height, width)))
            h = call_after(seams.after_block, h, address, frames)
        return rearrange(self.out(h), "(b t) c h w -> b c t h w", t=inputs.context.frames)


def _add(h: Tensor, residual: Tensor | None) -> Tensor:
    return h if residual is None else h + rearrange(residual, "b c t h w -> (b t) c h w")


@dataclass(frozen=True)
class LayerFactory:
    """Make the layers that one configuration asks for."""

    config: VideoUNetConfig
    operations: Any
    attention: AttentionFunction
    factory: dict[str, Any]

    @property
    def _kw(self) -> dict[str, Any]:
        return {"operations": self.operations, **self.factory}

    @property
    def _normed(self) -> dict[str, Any]:
        return {"norm_groups": self.config.norm_groups, **self._kw}

    def mlp(self, in_features: int, out_features: int) -> nn.Sequential:
        return embedding_mlp(in_features, out_features, **self._kw)

    def convolution(self, in_channels: int, out_channels: int) -> nn.Module:
        return self.operations.Conv2d(in_channels, out_channels, 3, padding=1, **self.factory)

    def downsample(self, channels: int) -> Downsample:
        return Downsample(channels, **self._kw)

    def upsample(self, channels: int) -> Upsample:
        return Upsample(channels, **self._kw)

    def output(self, channels: int) -> nn.Sequential:
        norm = self.operations.GroupNorm(self.config.norm_groups, channels, **self.factory)
        return nn.Sequential(norm, nn.SiLU(inplace=True), self.convolution(channels, self.config.out_channels))

    def level(self, level: int, in_channels: int, channels: int) -> list[nn.Module]:
        """A residual block, followed by attention where the level has it."""
        attention = list(self._transformers(channels)) if level in self.config.attention_levels else []
        return [self._residual(in_channels, channels), *attention]

    def middle(self, channels: int) -> list[nn.Module]:
        return [
            self._residual(channels, channels),
            *self._transformers(channels),
            self._residual(channels, channels),
        ]

    def init_attention(self, channels: int) -> TemporalTransformer:
        return self._temporal(channels, INIT_ATTENTION_HEADS, self.config.head_dim)

    def _residual(self, in_channels: int, channels: int) -> ResBlock:
        config = self.config
        return ResBlock(in_channels, channels, config.embedding_features, config.temporal_convolution, **self._normed)

    def _transformers(self, channels: int) -> Iterator[nn.Module]:
        heads = self.config.heads(channels)
        yield self._spatial(channels, *heads)
        if self.config.temporal_attention:
            yield self._temporal(channels, *heads)

    def _spatial(self, channels: int, heads: int, head_dim: int) -> SpatialTransformer:
        config, shared = self.config, {"attention": self.attention, **self._kw}
        attn1 = SelfAttention(channels, heads, head_dim, **shared)
        attn2 = DualCrossAttention(channels, config.context_dim, heads, head_dim, config.image_gate, **shared)
        block = TransformerBlock(channels, attn1, attn2, **self._kw)
        return SpatialTransformer(channels, channels, block, **self._normed)

    def _temporal(self, channels: int, heads: int, head_dim: int) -> TemporalTransformer:
        inner = heads * head_dim
        block = TransformerBlock(
            inner,
            self._frame_attention(inner, heads, head_dim),
            self._frame_attention(inner, heads, head_dim),
            **self._kw,
        )
        return TemporalTransformer(channels, inner, block, **self._normed)

    def _frame_attention(self, inner: int, heads: int, head_dim: int) -> nn.Module:
        if self.config.relative_position is not None:
            return RelativeSelfAttention(inner, heads, head_dim, self.config.relative_position, **self._kw)
        return FrameAttention(inner, heads, head_dim, attention=self.attention, **self._kw)


def initialize_video_unet(unet: VideoUNet) -> None:
    """Prepare a new network for training: what each block adds starts at zero, learned gates at one.

    Only for networks built with `torch.nn` and trained from scratch; loading never needs it.
    """
    for module in unet.modules():
        if isinstance(module, ResBlock):
            _zero(module.out_layers[-1])
            if module.temopral_conv is not None:
                _zero(module.temopral_conv.conv4[-1])
        elif isinstance(module, (SpatialTransformer, TemporalTransformer)):
            _zero(module.proj_out)
        elif isinstance(module, RelativeSelfAttention):
            nn.init.normal_(module.relative_position_k.embeddings_table, std=0.02)
            nn.init.normal_(module.relative_position_v.embeddings_table, std=0.02)
        elif isinstance(module, DualCrossAttention) and module.image_gate == "learned":
            nn.init.zeros_(module.alpha)
    _zero(unet.out[-1])
    if unet.config.fps_embedding:
        _zero(unet.fps_embedding[-1])


def _zero(layer: Any) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
