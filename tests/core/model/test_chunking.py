"""Working on a part of the rows at a time changes nothing but memory."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from i2v_core.model import chunking
from i2v_core.model.chunking import chunk_slices, chunked
from i2v_core.model.video_unet import VideoUNet, VideoUNetConfig
from tests.core.weights.small import SMALL_DYNAMICRAFTER, largest_difference, seed

SHARED_TOKENS = replace(SMALL_DYNAMICRAFTER, image_token_layout="shared", relative_position=3)
NO_TIME = replace(
    SMALL_DYNAMICRAFTER,
    image_gate="none",
    fps_embedding=False,
    temporal_convolution=False,
    temporal_attention=False,
    init_attention=False,
)


def test_slices_cover_every_row_once() -> None:
    assert [(each.start, each.stop) for each in chunk_slices(7, 3)] == [(0, 3), (3, 6), (6, 7)]


def test_rows_go_through_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "AT_ONCE_CPU", 2 * chunking.WIDEST * 3 * 4 * 4)
    seen = []

    def function(x: Tensor, y: Tensor) -> Tensor:
        seen.append(len(x))
        return (x + y)[:, :1]

    x, y = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 1, 1)
    with torch.no_grad():
        out = chunked(function, x, y)
    assert seen == [2, 2, 1]
    assert torch.equal(out, (x + y)[:, :1])


@pytest.mark.slow
@pytest.mark.parametrize("config", [SMALL_DYNAMICRAFTER, SHARED_TOKENS, NO_TIME], ids=["frames", "shared", "image"])
@pytest.mark.parametrize("at_once", [1, 2800, 20000])
def test_a_network_in_parts_answers_as_at_once(
    config: VideoUNetConfig, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    unet = seed(VideoUNet(config)).eval()
    frames, shared = 3, config.image_token_layout == "shared"
    x, text = torch.randn(2, config.in_channels, frames, 8, 16), torch.randn(2, 7, config.context_dim)
    tokens = torch.randn(2, 4, config.context_dim) if shared else torch.randn(2, frames, 4, config.context_dim)
    given = {"image_tokens": tokens} if config.image_gate != "none" else {}
    times = torch.tensor([500.0, 20.0])
    with torch.no_grad():
        whole = unet(x, times, text, **given)
        monkeypatch.setattr(chunking, "AT_ONCE_CPU", at_once)
        cut = unet(x, times, text, **given)
    monkeypatch.undo()
    assert largest_difference(unet(x, times, text, **given), whole) < 1e-5
    assert largest_difference(cut, whole) < 1e-5


def test_keys_and_values_are_found_once_in_a_run() -> None:
    unet = seed(VideoUNet(SMALL_DYNAMICRAFTER)).eval()
    width = SMALL_DYNAMICRAFTER.context_dim
    x, text, tokens = torch.randn(1, 8, 3, 8, 8), torch.randn(1, 7, width), torch.randn(1, 3, 4, width)
    known: dict = {}
    with torch.no_grad():
        first = unet(x, torch.tensor([500.0]), text, image_tokens=tokens, known=known)
        again = unet(x, torch.tensor([500.0]), torch.zeros_like(text), image_tokens=tokens, known=known)
    assert len(known) == sum(name.endswith("attn2.to_k_ip") for name, _ in unet.named_modules())
    assert torch.equal(first, again)
