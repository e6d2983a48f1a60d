"""A head start for the text encoder: tell the motions apart by their captions, before any picture is seen.

Without it a small video model first learns the mean of all motions, and takes long to find that the words matter.
"""

import torch
from torch import nn
from torch.nn import Linear
from torch.nn import functional as F

from ..data.moving_crops import MOTIONS, caption
from ..model.text_encoder import TextEncoder


def pretrain_text_encoder(
    encoder: TextEncoder, *, steps: int = 400, batch_size: int = 128, learning_rate: float = 2e-3, seed: int = 0
) -> float:
    """Train the pooled vector to name the motion of a caption; return the share named rightly in the last step."""
    generator = torch.Generator().manual_seed(seed)
    device = encoder.token_embedding.weight.device
    head = Linear(encoder.config.features, len(MOTIONS), device=device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=learning_rate)
    right = 0.0
    for _ in range(steps):
        wanted = torch.randint(len(MOTIONS), (batch_size,), generator=generator)
        _, pooled = encoder.encode([caption(MOTIONS[int(index)], generator) for index in wanted])
        scores, wanted = head(pooled), wanted.to(device)
        loss = F.cross_entropy(scores, wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        right = (scores.argmax(1) == wanted).float().mean().item()
    return right
