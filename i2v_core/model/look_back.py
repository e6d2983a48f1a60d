"""Look-back: "Implicit Semi-auto-regressive Image-to-Video Diffusion", section 2.2 and Algorithm 1.

A recurrent convolution after blocks of a U-Net. Frame by frame it mixes what the frames before, already updated, left
for this one, so that the given image in frame 0 reaches every later frame at a cost linear in their number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import AttentionFunction
from .seams import AfterBlock, BlockAddress

Placement = Literal["layer", "block", "stage"]


@dataclass(frozen=True)
class LookBackConfig:
    """Size and place of the look-back modules; the defaults are the preset "compact".

    Attributes:
        depth: frames that one update sees, itself included.
        kernel: side of the two-dimensional kernel, odd.
        groups: of the recurrent convolution.
        bottleneck: most channels of the recurrence, between two channel mixes; only with `residual`. None: no limit.
        placement: where sites lie if none are listed: after every `layer` of the U-Net (the paper's), every residual
            `block`, or the last of each `stage`.
        padding: what stands before frame 0: frame 0 repeated, or zeros.
        adapter: taps of the depth-wise convolution: one frame before and after (the paper's), or two before. Only the
            causal one makes generation in pieces equal to generation at once.
        residual: what look-back finds is added to the frame, which itself stays out of the recurrence.
        sites: channels of every block that look-back follows, by `site_name`; empty takes those of the U-Net.

    Raises ValueError for a value outside its range.
    """

    depth: int = 3
    kernel: int = 3
    groups: int = 1
    bottleneck: int | None = None
    placement: Placement = "stage"
    padding: Literal["repeat", "zeros"] = "repeat"
    adapter: Literal["centered", "causal"] = "centered"
    residual: bool = False
    sites: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.depth < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"look-back needs a depth from 1 and an odd kernel, got {self.depth} and {self.kernel}")
        if self.bottleneck is not None and not self.residual:
            raise ValueError(
                f"a bottleneck of {self.bottleneck} channels cannot pass the frame itself: set residual too, or none"
            )
        for site, channels in self.sites.items():
            if self.width(channels) % self.groups:
                raise ValueError(f"{self.groups} groups do not divide the {self.width(channels)} channels of '{site}'")

    def width(self, channels: int) -> int:
        """Channels of the recurrence at a site."""
        return min(channels, self.bottleneck or channels)


LOOK_BACK_PRESETS: dict[str, LookBackConfig] = {
    "paper": LookBackConfig(depth=5, kernel=5, placement="layer"),
    "compact": LookBackConfig(depth=3, kernel=3, placement="stage"),
}


def site_name(address: BlockAddress) -> str:
    """Key of a block's look-back module, such as `input_3`."""
    return f"{address.part}_{address.index}"


def find_sites(
    placement: Placement, model_channels: int, channel_mult: Sequence[int], num_res_blocks: int | Sequence[int]
) -> dict[str, int]:
    """Name and channels of the sites in a U-Net of the Stable Diffusion family, in the order of its forward pass.

    `layer`: after each of them, "after each layer of diffusion U-Net" (section 2.2): 25 in SD 1.5, with the first
    convolution and the downsamplers. `block`: after every block with a residual block, 21 in SD 1.5. `stage`: after the
    last one of each level that still has its size, and the middle, nine in SD 1.5; before the blocks that change
    size, where it costs least.
    """
    levels = range(len(channel_mult))
    counts = [num_res_blocks] * len(levels) if isinstance(num_res_blocks, int) else list(num_res_blocks)
    channels = [mult * model_channels for mult in channel_mult]
    sites: dict[str, int] = {"input_0": model_channels} if placement == "layer" else {}
    index = 0
    for level in levels:
        for i in range(counts[level]):
            index += 1
            if placement != "stage" or i == counts[level] - 1:
                sites[f"input_{index}"] = channels[level]
        index += 1
        if placement == "layer" and level != levels[-1]:
            sites[f"input_{index}"] = channels[level]  # the downsampler
    sites["middle_0"] = channels[-1]
    index = 0
    for level in reversed(levels):
        last = counts[level] - (1 if level else 0)  # above level 0 the very last one also upsamples
        for i in range(counts[level] + 1):
            if placement != "stage" or i == last:
                sites[f"output_{index}"] = channels[level]
            index += 1
    return sites


def check_sites(config: LookBackConfig, available: Mapping[str, int]) -> None:
    """Refuse a U-Net whose blocks `available` (all of `find_sites("layer", ...)`) are not those of the configuration.

    Raises ValueError naming the first site that is missing or has other channels.
    """
    for site, channels in config.sites.items():
        if available.get(site) != channels:
            has = f"has {available[site]}" if site in available else "is missing"
            raise ValueError(
                f"the look-back adapter was trained for another U-Net: it needs block '{site}' with {channels} "
                f"channels, which in this model {has}; use the base that the adapter's page names"
            )


class SiteState(NamedTuple):
    """State that one site carries from one piece of a video to the next.

    Attributes:
        recurrence: the last updated frame, and what those before it leave for the next ones, `b c h w` each.
        tail: the last frames before the adapter that its next taps see, `b c t h w`.
    """

    recurrence: tuple[Tensor, ...]
    tail: Tensor

    def to(self, device: torch.device | str) -> "SiteState":
        return SiteState(tuple(frame.to(device) for frame in self.recurrence), self.tail.to(device))


@dataclass
class LookBackState:
    """State of look-back along a video that is made in pieces, at one denoising step.

    The caller keeps one for each step (and for each guidance branch that runs alone) and passes it with every piece;
    look-back replaces its entries.

    Attributes:
        device: where the entries lie between the pieces, such as "cpu" for host memory; None: where they are made.
        sites: by `site_name`; empty before the first piece.
    """

    device: torch.device | str | None = None
    sites: dict[str, SiteState] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """The video's first piece has passed."""
        return bool(self.sites)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return sum(
            t.numel() * t.element_size() for state in self.sites.values() for t in (*state.recurrence, state.tail)
        )


class LookBackSite(nn.Module):
    """One look-back module: recurrent convolution, convolution over the channels, depth-wise adapter.

    Algorithm 1's Conv2d over `depth` frames is kept as two layers, because its share of the frame itself does not
    depend on the recurrence: `current` runs on all frames at once. `history` is turned round: from one updated frame to
    its shares in the next ones, so that nothing is ever concatenated.
    """

    def __init__(self, channels: int, config: LookBackConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        width, padding = config.width(channels), config.kernel // 2
        kernel = {"kernel_size": config.kernel, "padding": padding, "groups": config.groups, **factory}
        self.config = config
        self.down = operations.Conv1d(channels, width, 1, **factory) if width < channels else None
        self.current = operations.Conv2d(width, width, **kernel)
        lags = config.depth - 1
        self.history = operations.Conv2d(width, lags * width, bias=False, **kernel) if lags else None
        self.mix = operations.Conv1d(width, channels, 1, **factory)
        self.adapter = operations.Conv3d(channels, channels, 3, padding=(0, 1, 1), groups=channels, **factory)

    def forward(self, clip: Tensor, state: SiteState | None = None) -> tuple[Tensor, SiteState]:
        """Update the frames `b c t h w` that follow those of `state`, None for a video's first ones."""
        narrow = clip if self.down is None else _over_channels(self.down, clip)
        updated, recurrence = self.recur(narrow, state)
        taps = _with_neighbors(_over_channels(self.mix, updated), state, self.config)
        adapted = self.adapter(taps)
        if self.config.residual:
            adapted = clip + adapted
        end = taps.shape[2] - _frames_after(self.config)
        return adapted, SiteState(recurrence, taps[:, :, end - _frames_before(self.config) : end])

    def recur(self, clip: Tensor, state: SiteState | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The look-back convolution alone, `b c t h w`, and what a following piece needs of it."""
        own = rearrange(self.current(_to_frames(clip)), "(b t) c h w -> b c t h w", t=clip.shape[2])
        if self.history is None:
            return own, ()
        if state is None:
            shares, pending = self._before(clip[:, :, 0])
        else:
            shares, pending = self._shares(state.recurrence[0]), list(state.recurrence[1:])
        updated: list[Tensor] = []
        for frame in own.unbind(2):
            if updated:
                shares = self._shares(updated[-1])
            arrived, *pending = [left + share for left, share in zip(pending, shares[:-1], strict=True)] + [shares[-1]]
            updated.append(frame + arrived)
        return rearrange(torch.stack(updated, dim=1), "b t c h w -> b c t h w"), (updated[-1], *pending)

    def _shares(self, frame: Tensor) -> tuple[Tensor, ...]:
        """Contributions of an updated frame `b c h w` to each of the next `depth - 1`."""
        groups, lags = self.config.groups, self.config.depth - 1
        shares = cast(nn.Module, self.history)(frame)
        return rearrange(shares, "b (g lag c) h w -> lag b (g c) h w", g=groups, lag=lags).unbind(0)

    def _before(self, first: Tensor) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """Shares of the frame before frame 0, and what those still earlier leave for frame 0 and the next ones."""
        if self.config.padding == "zeros":
            nothing = torch.zeros_like(first)
            return (nothing,) * (self.config.depth - 1), [nothing] * (self.config.depth - 2)
        shares = self._shares(first)
        return shares, [torch.stack(shares[lag:]).sum(0) for lag in range(1, len(shares))]


class LookBack(nn.Module):
    """Look-back modules for the sites of one U-Net.

    Args:
        config: with its sites listed.
        operations: namespace of layer classes; the host passes its own, which cast and offload weights.
        device, dtype: of the parameters.

    Raises:
        ValueError: the configuration lists no sites.
    """

    def __init__(
        self,
        config: LookBackConfig,
        *,
        operations: Any = nn,
        attention: AttentionFunction | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        del attention  # every adapter is built alike, and this one has none
        if not config.sites:
            raise ValueError("a look-back network needs its sites listed: fill config.sites from find_sites")
        super().__init__()
        self.config = config
        self.sites = nn.ModuleDict(
            {
                site: LookBackSite(channels, config, operations, device=device, dtype=dtype)
                for site, channels in config.sites.items()
            }
        )

    def forward(
        self, clip: Tensor, site: str, state: LookBackState | None = None, *, keep_first: bool = False
    ) -> Tensor:
        """Update the frames after a block; a block without a module passes unchanged.

        Args:
            clip: output of the block, `b c t h w`.
            site: `site_name` of the block.
            state: carried along a video in pieces, and updated; None for a video at once.
            keep_first: the video's first frame leaves as it came, for the initialization `inversion`.
        """
        if site not in self.sites:
            return clip
        earlier = None if state is None else state.sites.get(site)
        updated, later = self.sites[site](clip, None if earlier is None else earlier.to(clip.device))
        if state is not None:
            state.sites[site] = later if state.device is None else later.to(state.device)
        if keep_first and earlier is None:
            return torch.cat([clip[:, :, :1], updated[:, :, 1:]], dim=2)
        return updated

    def after_block(self, state: LookBackState | None = None, *, keep_first: bool = False) -> AfterBlock:
        """The call after each block for `Seams.after_block`; arguments as for `forward`."""
        return lambda clip, address: self(clip, site_name(address), state, keep_first=keep_first)


def look_back_literally(site: LookBackSite, clip: Tensor) -> Tensor:
    """Algorithm 1 as written, the reference for `LookBackSite.recur`: one convolution over concatenated frames."""
    config, current = site.config, site.current
    weights = [current.weight]
    if site.history is not None:
        lags = config.depth - 1
        weights += rearrange(site.history.weight, "(g lag o) i h w -> lag (g o) i h w", g=config.groups, lag=lags)
    weight = torch.cat(weights[::-1], dim=1)
    first = clip[:, :, 0]
    before = first if config.padding == "repeat" else torch.zeros_like(first)
    h = [before] * (config.depth - 1) + list(clip.unbind(2))
    for i in range(config.depth - 1, len(h)):
        window = torch.stack(h[i - config.depth + 1 : i + 1], dim=1)
        joined = rearrange(window, "b d (g c) h w -> b (g d c) h w", g=config.groups)
        h[i] = F.conv2d(joined, weight, current.bias, padding=config.kernel // 2, groups=config.groups)
    return torch.stack(h[config.depth - 1 :], dim=2)


@torch.no_grad()
def initialize_look_back(look_back: LookBack) -> None:
    """Prepare a new network for training as the identity: step 0 is the untouched image model.

    Each update takes the frame itself, and the layers behind it pass it on; a residual one adds nothing at first.
    Only for networks built with `torch.nn`; loading never needs it.
    """
    for site in cast(list[LookBackSite], list(look_back.sites.values())):
        config = site.config
        nn.init.dirac_(site.current.weight, config.groups)
        nn.init.zeros_(site.current.bias)
        if site.history is not None:
            nn.init.zeros_(site.history.weight)
        if site.down is None:
            nn.init.dirac_(site.mix.weight)
            nn.init.zeros_(site.mix.bias)
        nn.init.zeros_(site.adapter.weight)
        nn.init.zeros_(site.adapter.bias)
        if not config.residual:
            site.adapter.weight[:, :, _frames_before(config), 1, 1] = 1


def _frames_before(config: LookBackConfig) -> int:
    return 2 if config.adapter == "causal" else 1


def _frames_after(config: LookBackConfig) -> int:
    return 0 if config.adapter == "causal" else 1


def _with_neighbors(clip: Tensor, state: SiteState | None, config: LookBackConfig) -> Tensor:
    """The clip between the frames that the adapter's taps reach before and after it."""
    before, after = _frames_before(config), _frames_after(config)
    kept = 1.0 if config.padding == "repeat" else 0.0
    earlier = (clip[:, :, :1] * kept).expand(-1, -1, before, -1, -1) if state is None else state.tail
    later = (clip[:, :, -1:] * kept).expand(-1, -1, after, -1, -1)
    return torch.cat([earlier, clip, later], dim=2)


def _over_channels(layer: nn.Module, clip: Tensor) -> Tensor:
    """A Conv1d of kernel 1, for which all positions are alike."""
    return rearrange(
        layer(rearrange(_to_frames(clip), "n c h w -> n c (h w)")),
        "(b t) c (h w) -> b c t h w", t=clip.shape[2], h=clip.shape[3],
    )  # fmt: skip


def _to_frames(clip: Tensor) -> Tensor:
    return rearrange(clip, "b c t h w -> (b t) c h w")
