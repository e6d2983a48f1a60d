"""Temporal noise fusion starts as the residual path, works frame by frame, and has the sizes it says."""

from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

from i2v_core.model.embeddings import sinusoidal_embedding
from i2v_core.model.temporal_noise_fusion import (
    FUSION_PRESETS,
    TemporalNoiseFusion,
    TemporalNoiseFusionConfig,
    _position_codes,
    initialize_temporal_noise_fusion,
)
from tests.core.weights.small import seed

SMALL = TemporalNoiseFusionConfig(features=32, heads=2)


@pytest.fixture
def fusion() -> TemporalNoiseFusion:
    return seed(TemporalNoiseFusion(SMALL))


def clips(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Residual, reference and timesteps of two clips."""
    return torch.randn(2, 4, *shape), torch.randn(2, 4, *shape), torch.tensor([3.0, 900.0])


def test_at_initialization_it_returns_the_residual() -> None:
    fusion = TemporalNoiseFusion(SMALL)
    initialize_temporal_noise_fusion(fusion)
    residual, reference, timesteps = clips(3, 8, 8)
    assert torch.equal(fusion(residual, reference, timesteps), residual)


def test_gradients_reach_every_parameter(fusion: TemporalNoiseFusion) -> None:
    fusion(*clips(3, 8, 8)).square().mean().backward()
    assert [name for name, p in fusion.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_reference_timestep_and_place_matter(fusion: TemporalNoiseFusion) -> None:
    residual, reference, timesteps = clips(2, 8, 8)
    with torch.no_grad():
        fused = fusion(residual, reference, timesteps)
        assert not torch.allclose(fusion(residual, reference.flip(-1), timesteps), fused)
        assert not torch.allclose(fusion(residual, reference, timesteps + 50), fused)
        # Without position codes a shuffled reference would be the same set of keys.
        patches = reference.reshape(2, 4, 2, 4, 2, 4, 2).flip(3).reshape_as(reference)
        assert not torch.allclose(fusion(residual, patches, timesteps), fused, atol=1e-4)


@torch.no_grad()
def test_it_is_figure_3_written_out(fusion: TemporalNoiseFusion) -> None:
    """Adaptive norms by `1 + scale`, a skip around both attentions, keys of reference and residual, the time step."""
    residual, reference, timesteps = clips(1, 4, 4)
    weights, (heads, features) = dict(fusion.named_parameters()), (SMALL.heads, SMALL.features)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        scale, shift = linear(F.silu(embedding), f"{name}.modulation.1")[:, None].chunk(2, dim=-1)
        return F.layer_norm(x, (features,)) * (1 + scale) + shift

    def attend(x: torch.Tensor, context: torch.Tensor, name: str) -> torch.Tensor:
        q, k, v = (
            rearrange(linear(given, f"{name}.to_{part}"), "b n (h d) -> b h n d", h=heads)
            for part, given in (("q", x), ("k", context), ("v", context))
        )
        attended = F.scaled_dot_product_attention(q, k, v)
        return linear(rearrange(attended, "b h n d -> b n (h d)"), f"{name}.to_out.0")

    def tokens(clip: torch.Tensor, name: str) -> torch.Tensor:
        patches = rearrange(clip[:, :, 0], "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)
        return linear(patches, name) + _position_codes(2, 2, features).reshape(1, 4, features)

    embedding = linear(F.silu(linear(sinusoidal_embedding(timesteps, features), "time_embed.0")), "time_embed.2")
    own, image = tokens(residual, "residual_in"), tokens(reference, "reference_in")
    h = own + attend(norm(own, "norm1"), norm(own, "norm1"), "self_attention")
    h = h + attend(norm(h, "norm2"), torch.cat([image, own], dim=1), "cross_attention")
    change = rearrange(linear(h, "proj_out"), "b (h w) (c p q) -> b c 1 (h p) (w q)", h=2, p=2, q=2)
    torch.testing.assert_close(fusion(residual, reference, timesteps), residual + change, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_frames_and_clips_are_fused_each_by_itself(fusion: TemporalNoiseFusion) -> None:
    residual, reference, timesteps = clips(3, 8, 8)
    together = fusion(residual, reference, timesteps)
    alone = fusion(residual[1:, :, 2:], reference[1:, :, 2:], timesteps[1:])
    torch.testing.assert_close(together[1:, :, 2:], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(7, 9), (2, 5), (16, 4)])
def test_any_size_of_latent_is_taken(fusion: TemporalNoiseFusion, size: tuple[int, int]) -> None:
    residual, reference, timesteps = clips(2, *size)
    fused = fusion(residual, reference, timesteps)
    assert fused.shape == residual.shape
    assert fused.isfinite().all()


def test_presets_have_the_sizes_that_are_written_beside_them() -> None:
    counted = {
        name: sum(p.numel() for p in TemporalNoiseFusion(config, device="meta").parameters())
        for name, config in FUSION_PRESETS.items()
    }
    assert {name: round(count / 1e6, 2) for name, count in counted.items()} == {
        "paper": 1.45,
        "compact": 0.24,
        "demo": 0.25,
    }


@pytest.mark.parametrize("fusion", ["linear", "none"])
def test_a_fusion_that_is_not_learned_has_no_weights(fusion: str) -> None:
    module = TemporalNoiseFusion(TemporalNoiseFusionConfig(fusion=fusion))  # type: ignore[arg-type]
    initialize_temporal_noise_fusion(module)
    assert list(module.parameters()) == []


def test_what_does_not_fit_is_refused_in_one_sentence(fusion: TemporalNoiseFusion) -> None:
    with pytest.raises(ValueError, match="made for latents of 4 channels, got 12"):
        fusion(torch.zeros(1, 12, 2, 4, 4), torch.zeros(1, 12, 2, 4, 4), torch.zeros(1))
    with pytest.raises(ValueError, match="features must be a multiple of 4 and of the heads, got 30"):
        replace(SMALL, features=30)
    with pytest.raises(ValueError, match="fusion must be one of"):
        replace(SMALL, fusion="linnear")  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [-1e9, 1.5, float("nan")])
def test_shares_of_the_reference_are_shares(share: float) -> None:
    with pytest.raises(ValueError, match="first_lambda must be from 0 to 1"):
        TemporalNoiseFusionConfig(first_lambda=share)
