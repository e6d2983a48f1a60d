"""A small image encoder from pictures alone: it learns to find the second view of a picture among many.

CLIP, which DynamiCrafter takes, is trained against captions; the captions of our clips name little of what is seen. So
two views of a picture take the caption's place, as in SimCLR (arXiv:2002.05709).
"""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import LayerNorm, Linear, Sequential
from torch.nn import functional as F

from ..data.moving_crops import MovingCrops, MovingCropsConfig
from ..files import atomic_path
from ..model.image_encoder import ImageEncoder
from .checkpoint_files import load_weights

logger = logging.getLogger("i2v_core.training")

TEMPERATURE = 0.1
SMALLEST_VIEW = 0.5  # of the picture's side


def train_on_crops(encoder: ImageEncoder, path: Path, steps: int) -> None:
    """`trained_image_encoder` on the first frames of moving crops, at the encoder's size."""
    pictures = MovingCrops(MovingCropsConfig(frames=1, size=encoder.config.size))
    trained_image_encoder(encoder, path, lambda index: pictures.clip(index).pixels[:, 0], steps)


def pretrain_image_encoder(
    encoder: ImageEncoder,
    picture: Callable[[int], Tensor],
    *,
    steps: int = 150,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> float:
    """Train the global token to tell pictures apart; return the share of second views found in the last 20 steps.

    Args:
        encoder: new, changed in place.
        picture: pixels in [-1, 1], `3 h w`, of a number; all of one size.

    With one core and the default sizes it takes about four minutes.
    """
    device, width = next(encoder.parameters()).device, encoder.config.features
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Sequential(LayerNorm(width), Linear(width, width)).to(device)
    weights = [*encoder.parameters(), *head.parameters()]
    optimizer, found = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.05), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min((step + 1) / 20, 1 - 0.95 * step / steps)
        pixels = torch.stack([picture(step * batch_size + i) for i in range(batch_size)])
        views = torch.cat([random_view(pixels, generator), random_view(pixels, generator)]).to(device)
        one, other = F.normalize(head(encoder(views)[:, 0]), dim=-1).chunk(2)
        likeness, own = one @ other.T / TEMPERATURE, torch.arange(batch_size, device=device)
        loss = (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        found.append((likeness.argmax(1) == own).float().mean().item())
        if (step + 1) % 20 == 0:
            logger.info("image encoder, step %d: loss %.3f, %.2f found", step + 1, loss.item(), found[-1])
    return sum(found[-20:]) / len(found[-20:])


def trained_image_encoder(encoder: ImageEncoder, path: Path, picture: Callable[[int], Tensor], steps: int) -> None:
    """Give the encoder the weights in `path`, or train them now and keep them there.

    Raises ValueError for a file of another encoder.
    """
    if not path.exists():
        found = pretrain_image_encoder(encoder, picture, steps=steps)
        logger.info("the image encoder finds %.0f %% of second views", 100 * found)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            save_file({name: weight.contiguous() for name, weight in encoder.state_dict().items()}, temporary)
    try:
        load_weights(encoder, path)
    except ValueError as error:
        raise ValueError(f"'{path}' holds another image encoder than the recipe asks for: {error}") from error


def random_view(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """A random part of every picture `b 3 h w` at its size, half of them mirrored, in slightly other colors."""
    count = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    side = uniform(SMALLEST_VIEW, 1.0)
    mirrored = 1 - 2 * (torch.rand(count, generator=generator) < 0.5).float()
    shift = (1 - side)[:, None] * uniform(-1, 1, 2)
    zero = torch.zeros(count)
    rows = [torch.stack([side * mirrored, zero, shift[:, 0]], -1), torch.stack([zero, side, shift[:, 1]], -1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(pixels.shape), align_corners=False)
    views = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return views * uniform(0.8, 1.2, 3, 1, 1) + uniform(-0.2, 0.2, 1, 1, 1)
