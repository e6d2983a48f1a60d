"""What is measured on a network itself, not on its clips: T3 and V5."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from i2v_core.conditions import Conditions
from i2v_core.denoiser import Denoiser
from i2v_core.diffusion.prediction import add_noise
from i2v_core.generate import encode_conditions
from i2v_core.methods import TripMethod
from i2v_core.model.temporal_noise_fusion import ContextAttention

from .networks import Proof
from .rows import held_out_items
from .variants import VARIANTS

Scores = dict[str, dict[str, list[float]]]
TIMES = (50, 250, 500, 750, 950)
NOISY, CLEAN = (750, 950), (50, 250)


class ReferenceShare:
    """An attention function that also notes how much of every frame's attention falls on the reference's tokens."""

    def __init__(self) -> None:
        self.share: Tensor | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, heads: int, **_: Any) -> Tensor:
        q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (q, k, v))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        # The fusion attends to [reference, residual], as many tokens of each.
        self.share = weights[..., : k.shape[2] // 2].sum(-1).mean((1, 2))
        return rearrange(weights @ v, "b h n d -> b n (h d)")


@contextmanager
def observed(attention: ContextAttention) -> Iterator[ReferenceShare]:
    """Put a noting function in the place of an attention's own for a while."""
    own, noting = attention.attention, ReferenceShare()
    attention.attention = noting
    try:
        yield noting
    finally:
        attention.attention = own


def reference_attention(proof: Proof, seed: int) -> tuple[Scores, list[list[float]]]:
    """T3: the share of the fusion's attention on the reference, and its mean by time (of `TIMES`) and frame."""
    checkpoint, denoiser = proof.variant("trip", seed)
    method, items = denoiser.find(TripMethod), held_out_items(proof, few=True)
    assert method is not None and method.module is not None
    assert checkpoint.autoencoder is not None and checkpoint.text_encoder is not None
    pixels = torch.stack([item.pixels for item in items]).to(proof.schedule.device)
    latents = checkpoint.autoencoder.encode_clip(pixels)
    given = encode_conditions(checkpoint.text_encoder, [item.caption for item in items], latents[:, :, :1])
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents)
    shares = []
    for time in TIMES:
        timesteps = torch.full((len(items),), time, device=latents.device)
        z = add_noise(latents, noise, denoiser.schedule.alpha_bar[timesteps.cpu()].to(latents))
        with observed(method.module.cross_attention) as noted, torch.inference_mode():
            denoiser.predict(z, timesteps, given)
        assert noted.share is not None
        shares.append(rearrange(noted.share, "(b t) -> b t", b=len(items)).cpu())
    by_time = torch.stack(shares, dim=1)  # b time t
    picked = {
        "fusion_first_frame": by_time[:, :, 0].mean(1),
        "fusion_last_frame": by_time[:, :, -1].mean(1),
        "fusion_noisy": by_time[:, [TIMES.index(time) for time in NOISY]].mean((1, 2)),
        "fusion_clean": by_time[:, [TIMES.index(time) for time in CLEAN]].mean((1, 2)),
    }
    scores = {name: {"reference attention": [round(v, 5) for v in values.tolist()]} for name, values in picked.items()}
    return scores, [[round(v, 4) for v in row] for row in by_time.mean(0).tolist()]


def retention_at_start(proof: Proof, seed: int) -> Scores:
    """V5: for every clip, whether a new branch leaves the base's answer as it was, bit for bit."""
    checkpoint = proof.base("text_to_video")
    branch = proof.new_module(VARIANTS["dream"], checkpoint, seed).to(proof.schedule.device).eval()
    assert checkpoint.autoencoder is not None and checkpoint.text_encoder is not None
    items = held_out_items(proof, few=True)
    pixels = torch.stack([item.pixels for item in items]).to(proof.schedule.device)
    z = torch.randn_like(checkpoint.autoencoder.encode_clip(pixels))
    timesteps = torch.linspace(0, 999, len(z)).long().to(z.device)
    text, pooled = checkpoint.text_encoder.encode([item.caption for item in items])
    base = Denoiser.of(checkpoint.unet, checkpoint.preset)
    with_image = Conditions(text=text, pooled_text=pooled, image=pixels[:, :, 0])
    with torch.inference_mode():
        plain = base.predict(z, timesteps, Conditions(text=text, pooled_text=pooled))
        retained = replace(base, methods=(VARIANTS["dream"].method.of(branch),)).predict(z, timesteps, with_image)
    same = (plain == retained).flatten(1).all(1).float().tolist()
    return {"retention_at_start": {"unchanged": same}, "never": {"unchanged": [0.0] * len(same)}}
