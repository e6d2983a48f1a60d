"""`VideoUNet` behind the host's calling convention for diffusion models."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from einops import rearrange
from torch import Tensor

from ...i2v_core.conditions import Conditions
from ...i2v_core.methods import Method, NetworkCall
from ...i2v_core.model.seams import AfterBlock, BlockAddress, Residuals, Seams
from ...i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from ..convert import clips_to_rows, rows_to_clips
from .patches import CallPatches, PatchWarnings, host_attention, is_patched, replaced_attentions

STEP_CACHE = "i2v_step_cache"  # where the host's options carry the cache of a sampling run
RUN = "look_back"  # where they carry look-back's run, which samples a part of each clip at a time
SEAMS = "seams"  # under which wrappers of the network pass on what methods add
Control = Mapping[str, list[Tensor | None]]


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
        self.patch_warnings = PatchWarnings()
        # What nodes for the host's own U-Net read.
        self.in_channels, self.out_channels = video_unet.in_channels, video_unet.out_channels
        self.model_channels, self.channel_mult = video_unet.model_channels, video_unet.channel_mult
        self.num_res_blocks = [video_unet.num_res_blocks] * len(video_unet.channel_mult)
        self.num_classes = None if video_unet.pooled_text_dim is None else "sequential"

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
        seams: Seams | None = None,
        **conditions: Any,
    ) -> Tensor:
        """`seams` are what methods add; the further conditions are those of `network_call`."""
        options, added = transformer_options or {}, seams or Seams()
        call, cache = network_call(x, timesteps, context, y, options, **conditions), options.get(STEP_CACHE)
        if cache is not None and added.after_block is not None:
            raise ValueError("Step caching leaves out blocks that look-back updates: use only one of the two.")
        if control:
            added = added + control_seams(control, len(self.input_blocks), call.x.shape[2], x.dtype)
        if is_patched(options):
            self.patch_warnings.tell(options)
            patches = CallPatches(options, x, call, self.model_channels, timesteps=timesteps, y=y)
            added = added + patches.seams()
        reuse = None if cache is None else cache.branch(branch_key(options))
        return clips_to_rows(super().forward(**call.inputs, seams=added, reuse=reuse))


def method_wrapper(
    method: Method, needs: str, refusal: str, active: Callable[[Mapping[str, Any]], bool] = lambda options: True
) -> Callable[..., Tensor]:
    """A wrapper of the network that adds what a method does at a call.

    Args:
        needs: field of `Conditions` without which the call is refused, in the words of `refusal`.
        active: of the host's options; where it is not, the call passes as it is.
    """

    def wrapper(
        executor: Any,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: Control | None = None,
        transformer_options: Any = None,
        **conditions: Any,
    ) -> Tensor:
        call = network_call(x, timesteps, context, y, transformer_options, **conditions)
        if getattr(call.conditions, needs) is None:
            raise ValueError(refusal)
        seams = method.seams(call) if active(transformer_options or {}) else Seams()
        return run_with(executor, (x, timesteps, context, y, control, transformer_options), conditions, seams)

    return wrapper


def run_with(executor: Any, inputs: Sequence[Any], conditions: Mapping[str, Any], seams: Seams) -> Tensor:
    """Call the network, or the next wrapper around it, with what a method adds to that of the wrappers before."""
    added = (conditions.get(SEAMS) or Seams()) + seams
    return executor(*inputs, **{**conditions, SEAMS: added})


def branch_key(options: Mapping[str, Any]) -> Hashable:
    """Tells the batches of guidance branches apart that the host runs at every step.

    Also by their window of frames and by attentions that other nodes replace.
    """
    window = getattr(options.get("context_window"), "index_list", ())
    uuids, branches = tuple(options.get("uuids", ())), tuple(options.get("cond_or_uncond", ()))
    return uuids, branches, tuple(window), replaced_attentions(options)


def clip_frames(rows: int, told: int | None) -> int:
    """Frames of each clip in a latent of `rows`: as the conditioning tells, or the latent is one clip.

    Raises ValueError if the rows are no whole clips.
    """
    frames = told or rows
    if rows % frames:
        raise ValueError(
            f"The latent has {rows} frames, but the conditioning was made for {frames}: take both from the same I2V "
            "Conditioning."
        )
    return frames


def frames_of_call(x: Tensor, options: Mapping[str, Any] | None, told: int | None, joined: int = 0) -> int:
    """Frames of each clip in the rows `(n b t) ...` of a call.

    They are those that look-back samples now, as many as the conditioning tells, or all rows of a guidance branch.

    Args:
        told: by the conditioning, or by a wrapper further out.
        joined: frames that TRIP has joined to each clip.

    Raises ValueError if another node cut a piece of look-back's.
    """
    options = options or {}
    rows, run = len(x) // len(options.get("cond_or_uncond", (0,))), options.get(RUN)
    if run is None:
        return told or rows
    frames: int = run.length + joined
    if rows % frames == 0:
        return frames
    if run.carried is not None:
        raise ValueError(
            f"Look-back makes this video in pieces of {run.length} frames, and another node cut them to {rows}: "
            "remove the context windows, or set frames_at_once to 0."
        )
    return rows  # a context window of the host


def network_call(
    x: Tensor,
    timesteps: Tensor,
    context: Tensor,
    y: Tensor | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    num_video_frames: int | None = None,
    joined_frames: int = 0,
    frame_tokens: Tensor | None = None,
    clip_tokens: Tensor | None = None,
    fps: float | None = None,
    image_detail: Tensor | None = None,
    i2v_image_hint: Tensor | None = None,
    **_: Any,
) -> NetworkCall:
    """The host's rows `(n b t) ...` as a call of the core's network, one clip for each branch and video.

    `frame_tokens` and `clip_tokens` are `(n b t) k d`; the latter, and the image's latent, repeat within a clip. The
    hint of image retention is one for each branch, `n c h w`.
    """
    frames = frames_of_call(x, options, num_video_frames, joined_frames)
    tokens = None if clip_tokens is None else clip_tokens[::frames]
    if frame_tokens is not None:
        tokens = rearrange(frame_tokens, "(b t) k d -> b t k d", t=frames)
    times = timesteps[::frames]
    latent = None
    if image_detail is not None:
        latent = image_detail[:: len(image_detail) // len(times)][:, :, None].to(x)
    hint = None
    if i2v_image_hint is not None:
        hint = i2v_image_hint.repeat_interleave(len(times) // len(i2v_image_hint), dim=0).to(x)
    conditions = Conditions(
        text=context[::frames],
        pooled_text=None if y is None else y[::frames],
        image_latent=latent,
        image_tokens=tokens,
        fps=None if fps is None else torch.full_like(times, fps),
        image_hint=hint,
    )
    return NetworkCall(rows_to_clips(x, frames), times, conditions)


def control_seams(control: Control | None, blocks: int, frames: int, dtype: torch.dtype) -> Seams:
    """Contributions of ControlNets and T2I-Adapters."""
    return Seams(control_residuals(control, blocks, frames, dtype), control_after_input(control))


def control_residuals(control: Control | None, blocks: int, frames: int, dtype: torch.dtype) -> Residuals | None:
    """A ControlNet's residuals for the skips and the middle; the host lists them from the first input block on.

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
    """A T2I-Adapter's residuals for the output of the input blocks, listed from the last one on."""
    added = (control or {}).get("input") or []
    if not any(rows is not None for rows in added):
        return None

    def after_block(h: Tensor, address: BlockAddress) -> Tensor:
        rows = added[-1 - address.index] if address.part == "input" and address.index < len(added) else None
        return h if rows is None else h + rows_to_clips(rows.to(h), h.shape[2])

    return after_block
