"""Temporal residual learning of TRIP (arXiv:2403.17005, section 3.3): image beside the clip, reference, and fusion."""

import torch
from torch import Tensor

from .diffusion.image_noise_prior import fusion_weights, linear_fusion, reference_prediction
from .diffusion.prediction import Prediction, target
from .diffusion.schedule import Schedule
from .model.image_projection import resample_image_tokens
from .model.temporal_noise_fusion import Position, TemporalNoiseFusion


def join_image(clip: Tensor, image: Tensor, position: Position) -> Tensor:
    """Put the given image beside a noised clip in time: `b c t h w` and `b c 1 h w` to `b c t+1 h w`.

    At the position `channel` the clip stays as it is: there the network's first convolution takes the image.
    """
    if position == "channel":
        return clip
    return torch.cat([image.to(clip), clip] if position == "begin" else [clip, image.to(clip)], dim=2)


def join_tokens(tokens: Tensor, frames: int, position: Position) -> Tensor:
    """Give the joined frame the image tokens of its neighbor: `b t k d` of any length to `b frames+1 k d`."""
    tokens = resample_image_tokens(tokens, frames)
    if position == "channel":
        return tokens
    return torch.cat([tokens[:, :1], tokens] if position == "begin" else [tokens, tokens[:, -1:]], dim=1)


def drop_image(clip: Tensor, position: Position) -> Tensor:
    """Take the given image's frame off again: the inverse of `join_image`."""
    return {"begin": clip[:, :, 1:], "end": clip[:, :, :-1], "channel": clip}[position]


def fuse(
    fusion: TemporalNoiseFusion,
    residual: Tensor,
    z: Tensor,
    timesteps: Tensor,
    image: Tensor,
    origin: Tensor | float,
    schedule: Schedule,
    prediction: Prediction,
) -> Tensor:
    """Fuse a network's answer with the reference that the given image stands for (equation 9 or 11).

    Both are taken in the network's own prediction: for eps they are the paper's noises. A network that estimates
    differences to an origin is led back to frames first, so that the reference always shows the image.

    Args:
        residual: the network's raw prediction, `b c t h w`.
        z: what it was given, `b c t h w`, variance preserving, from the origin.
        timesteps: in [0, T), `b`.
        image: the given image's latent, `b c 1 h w`.
        origin: where the network's latents begin, `b c 1 h w` or zero.

    Returns:
        The fused raw prediction, `b c t h w`.

    Raises:
        ValueError: a timestep out of range, or an image that does not fit the clip.
    """
    check_timesteps(timesteps, schedule)
    config = fusion.config
    if config.fusion == "none":
        return residual
    sigma = schedule.sigma_at(timesteps)
    alpha_bar, scale = schedule.alpha_bar_at(sigma).float(), schedule.scale_at(sigma).to(z)[:, None, None, None, None]
    moved = torch.as_tensor(scale * origin).to(z).expand_as(z)
    # What the prediction of the origin alone would be: adding it turns predictions of differences into frames'.
    offset = target(prediction, moved, torch.zeros_like(z), alpha_bar)
    signal = alpha_bar.sqrt().to(z)[:, None, None, None, None]
    reference = reference_prediction(prediction, z + signal * moved, scale * image, alpha_bar)
    if config.fusion == "linear":
        weights = fusion_weights(z.shape[2], config.first_lambda, config.last_lambda)
        return linear_fusion(reference, residual + offset, weights) - offset
    return fusion(residual + offset, reference, timesteps) - offset


def check_timesteps(timesteps: Tensor, schedule: Schedule) -> None:
    """Refuse timesteps outside [0, T)."""
    total = schedule.config.timesteps
    if not bool(((timesteps >= 0) & (timesteps < total)).all()):
        raise ValueError(
            f"timesteps must lie in [0, {total}), got {timesteps.min().item():g} to {timesteps.max().item():g}"
        )
