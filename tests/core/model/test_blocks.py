"""Residual blocks and the convolution over frames."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from i2v_core.model.blocks import Downsample, ResBlock, TemporalConvolution, Upsample, over_frames
from tests.core.weights.small import largest_difference, seed
from tests.parity.seeded import seeded_normal


@torch.no_grad()
def test_a_temporal_convolution_that_adds_nothing_is_the_identity() -> None:
    layer = seed(TemporalConvolution(32, nn))
    nn.init.zeros_(layer.conv4[-1].weight)
    nn.init.zeros_(layer.conv4[-1].bias)
    clip = seeded_normal("clip", (2, 32, 5, 4, 3))
    assert torch.equal(layer(clip), clip)


@torch.no_grad()
def test_the_order_of_frames_matters_to_a_temporal_convolution() -> None:
    layer, clip = seed(TemporalConvolution(32, nn)), seeded_normal("clip", (1, 32, 5, 4, 3))
    assert largest_difference(layer(clip.flip(2)).flip(2), layer(clip)) > 1e-2


@torch.no_grad()
def test_a_temporal_convolution_equals_its_stages_written_out() -> None:
    layer, clip = seed(TemporalConvolution(32, nn)), seeded_normal("clip", (2, 32, 3, 2, 2))
    h = clip
    for stage in (layer.conv1, layer.conv2, layer.conv3, layer.conv4):
        norm, convolution = stage[0], stage[-1]
        grouped = h.reshape(2, 32, -1)
        mean, deviation = grouped.mean(-1), (grouped.var(-1, unbiased=False) + 1e-5).sqrt()
        h = (h - mean[..., None, None, None]) / deviation[..., None, None, None]
        h = nn.functional.silu(h * norm.weight[:, None, None, None] + norm.bias[:, None, None, None])
        padded = torch.cat([torch.zeros_like(h[:, :, :1]), h, torch.zeros_like(h[:, :, :1])], dim=2)
        taps = [
            torch.einsum("oi,bithw->bothw", convolution.weight[:, :, i, 0, 0], padded[:, :, i : i + 3])
            for i in range(3)
        ]
        h = sum(taps) + convolution.bias[:, None, None, None]
    assert largest_difference(layer(clip), clip + h) < 1e-5


@torch.no_grad()
def test_every_clip_gets_its_own_embedding_in_all_its_frames() -> None:
    block = seed(ResBlock(32, 64, 16, False, nn))
    h, embedding = seeded_normal("h", (6, 32, 4, 4)), seeded_normal("e", (2, 16))
    together = block(h, embedding, 3)
    frames = [block(h[i : i + 1], embedding[i // 3 : i // 3 + 1], 1) for i in range(6)]
    assert largest_difference(together, torch.cat(frames)) < 1e-5


@torch.no_grad()
def test_down_and_up_meet_at_any_size() -> None:
    h = seeded_normal("h", (2, 32, 7, 5))
    small = seed(Downsample(32, nn))(h)
    assert small.shape == (2, 32, 4, 3)
    assert seed(Upsample(32, nn))(small, (7, 5)).shape == h.shape


@torch.no_grad()
def test_enlarging_to_twice_the_size_doubles_every_position() -> None:
    layer, h = seed(Upsample(32, nn)), seeded_normal("h", (1, 32, 3, 2))
    doubled = h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.equal(layer(h, (6, 4)), layer.conv(doubled))


class HostConvolution(nn.Conv3d):
    """Calls its own computation as hosts of 2026 do, which casts weights and says how it would pad."""

    def forward(self, clip: Tensor, autopad: Any = None) -> Tensor:
        return self._conv_forward(clip, self.weight, self.bias, autopad=autopad)  # type: ignore[call-arg]


@pytest.mark.parametrize("layer", [nn.Conv3d, HostConvolution])
@pytest.mark.parametrize("kernel", [1, 3])
@torch.no_grad()
def test_a_convolution_over_frames_is_the_one_in_three_dimensions(layer: type[nn.Conv3d], kernel: int) -> None:
    theirs = nn.Conv3d(4, 6, (kernel, 1, 1), padding=(kernel // 2, 0, 0))
    ours = over_frames(layer)(4, 6, (kernel, 1, 1), padding=(kernel // 2, 0, 0))
    ours.load_state_dict(theirs.state_dict())
    clip = seeded_normal("clip", (2, 4, 5, 3, 7))
    torch.testing.assert_close(ours(clip), theirs(clip), atol=1e-6, rtol=1e-6)


def test_groups_of_one_channel_are_deaf_to_time_and_text() -> None:
    """A shift that is the same everywhere gets lost in the norm behind it, unless a group has several channels."""
    h, embeddings = seeded_normal("h", (2, 32, 4, 3)), [seeded_normal(name, (1, 16)) for name in ("one", "other")]
    deaf, hears = (seed(ResBlock(32, 32, 16, False, nn, norm_groups=groups)) for groups in (32, 4))
    first, second = ([block(h, embedding, 2) for embedding in embeddings] for block in (deaf, hears))
    torch.testing.assert_close(first[0], first[1], rtol=0, atol=1e-4)
    assert (second[0] - second[1]).abs().max() > 0.1
