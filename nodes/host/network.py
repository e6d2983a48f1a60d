"""`VideoUNet` behind the host's calling convention for diffusion models."""

from collections.abc import Hashable, Mapping
from typing import Any

import comfy.ldm.modules.attention
import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from einops import rearrange
from torch import Tensor

from ...i2v_core.model.attention import ImageStream
from ...i2v_core.model.video_unet import AfterBlock, BlockAddress, Residuals, VideoUNet, VideoUNetConfig
from ..convert import clips_to_rows, rows_to_clips

STEP_CACHE = "i2v_step_cache"  # where the host's options carry the cache of a sampling run
Control = Mapping[str, list[Tensor | None]]


def host_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """The host's attention over `b n (heads d)`."""
    # Weights of the Stable Diffusion 2 family overflow half precision in backends without a fused kernel.
    return comfy.ldm.modules.attention.optimized_attention(q, k, v, heads, attn_precision=torch.float32)


class HostVideoUNet(VideoUNet):
    """`VideoUNet` on rows `(n b t) c h w`: guidance branches, clips and frames share the batch axis.

    A subclass and not a wrapper, so that the parameters keep the names to which the host's LoRA maps point.
    """

    def __init__(
        self,
        video_unet: VideoUNetConfig,
        *,
        operations: Any,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        **_: object,
    ) -> None:
        # What else is in the host's configuration only describes the network to its LoRA maps.
        super().__init__(video_unet, operations=operations, attention=host_attention, device=device, dtype=dtype)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: Control | None = None,
        transformer_options: Mapping[str, Any] | None = None,
        **conditions: Any,
    ) -> Tensor:
        """Run the network through the wrappers that other nodes put around it; arguments are the host's."""
        options = {} if transformer_options is None else transformer_options
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        executor = WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, timesteps, context, y, control, options, **conditions)

    def _forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: Control | None = None,
        transformer_options: Mapping[str, Any] | None = None,
        *,
        retained: Residuals | None = None,
        after_block: AfterBlock | None = None,
        hint: Tensor | None = None,
        image_streams: Mapping[str, ImageStream] | None = None,
        **conditions: Any,
    ) -> Tensor:
        """`retained` is what image retention adds, `hint` what an image on further channels would, `(n b) c h w`.

        `image_streams` are those of an image projection that the checkpoint has not.

        The further conditions are those of `clip_inputs`.
        """
        given = clip_inputs(x, timesteps, context, y, transformer_options, **conditions)
        cache = (transformer_options or {}).get(STEP_CACHE)
        if cache is not None and after_block is not None:
            raise ValueError("Step caching leaves out blocks that look-back updates: use only one of the two.")
        frames = given["x"].shape[2]
        controlled = control_residuals(control, len(self.input_blocks), frames, x.dtype)
        prediction = super().forward(
            **given,
            residuals=add_residuals(controlled, retained),
            after_block=in_turn(after_block, control_after_input(control)),
            hint=hint,
            image_streams=image_streams,
            reuse=None if cache is None else cache.branch(branch_key(transformer_options or {})),
        )
        return clips_to_rows(prediction)


def branch_key(options: Mapping[str, Any]) -> Hashable:
    """Tells the batches of guidance branches apart that the host runs at every step, also by their window of frames."""
    window = getattr(options.get("context_window"), "index_list", ())
    return tuple(options.get("uuids", ())), tuple(options.get("cond_or_uncond", ())), tuple(window)


def clip_inputs(
    x: Tensor,
    timesteps: Tensor,
    context: Tensor,
    y: Tensor | None,
    options: Mapping[str, Any] | None,
    *,
    num_video_frames: int | None = None,
    frame_tokens: Tensor | None = None,
    clip_tokens: Tensor | None = None,
    fps: float | None = None,
    **_: Any,
) -> dict[str, Any]:
    """The host's rows `(n b t) ...` as arguments of `VideoUNet.forward`, one clip for each branch and video.

    `frame_tokens` and `clip_tokens` are `(n b t) k d`; the latter repeat within a clip.
    """
    branches = len((options or {}).get("cond_or_uncond", (0,)))
    frames = num_video_frames or len(x) // branches
    tokens = None if clip_tokens is None else clip_tokens[::frames]
    if frame_tokens is not None:
        tokens = rearrange(frame_tokens, "(b t) k d -> b t k d", t=frames)
    times = timesteps[::frames]
    return {
        "x": rows_to_clips(x, frames),
        "timesteps": times,
        "text": context[::frames],
        "image_tokens": tokens,
        "fps": None if fps is None else torch.full_like(times, fps),
        "pooled_text": None if y is None else y[::frames],
    }


def add_residuals(one: Residuals | None, other: Residuals | None) -> Residuals | None:
    """The sum of what two side networks add, of as many skips each."""
    if one is None or other is None:
        return one or other

    def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return b if a is None else a if b is None else a + b

    return Residuals(tuple(map(add, one.skips, other.skips)), add(one.middle, other.middle))


def in_turn(first: AfterBlock | None, second: AfterBlock | None) -> AfterBlock | None:
    """Both updates of a block's output, one after the other."""
    if first is None or second is None:
        return first or second
    return lambda h, address: second(first(h, address), address)


def control_residuals(control: Control | None, blocks: int, frames: int, dtype: torch.dtype) -> Residuals | None:
    """What a ControlNet adds to the skips and the middle; the host lists it from the first input block on.

    A list shorter than `blocks` belongs to the deepest ones, since the host takes from its end.
    """
    if not control:
        return None

    def to_clips(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else rows_to_clips(rows.to(dtype), frames)

    skips = control.get("output") or []
    middle = control.get("middle") or [None]
    padded = [None] * (blocks - len(skips)) + list(skips)
    return Residuals(tuple(map(to_clips, padded)), to_clips(middle[-1]))


def control_after_input(control: Control | None) -> AfterBlock | None:
    """What a T2I-Adapter adds to the output of the input blocks, listed from the last one on."""
    added = (control or {}).get("input") or []
    if not any(rows is not None for rows in added):
        return None

    def after_block(h: Tensor, address: BlockAddress) -> Tensor:
        rows = added[-1 - address.index] if address.part == "input" and address.index < len(added) else None
        return h if rows is None else h + rows_to_clips(rows.to(h), h.shape[2])

    return after_block
