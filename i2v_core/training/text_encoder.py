"""A head start for the text encoder: tell what captions name, above all the motion, before any picture is seen.

Without it a small video model first learns the mean of all motions, and takes long to find that the words matter.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import Linear
from torch.nn import functional as F

from ..data.clips import CaptionSource, LabeledCaption
from ..model.text_encoder import TextEncoder

UNNAMED = -100  # cross entropy's own mark for what does not count


def pretrain_text_encoder(
    encoder: TextEncoder,
    source: CaptionSource,
    *,
    steps: int = 400,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> dict[str, float]:
    """Train the pooled vector to name the classes of captions; return the shares named rightly in the last step."""
    generator = torch.Generator().manual_seed(seed)
    device = encoder.token_embedding.weight.device
    classes = source.classes()
    heads = nn.ModuleDict({aspect: Linear(encoder.config.features, len(names)) for aspect, names in classes.items()})
    heads.to(device)
    for parameter in heads.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=learning_rate)
    right: dict[str, float] = {}
    for _ in range(steps):
        captions = [source.labeled_caption(generator) for _ in range(batch_size)]
        _, pooled = encoder.encode([each.caption for each in captions])
        loss = torch.zeros((), device=device)
        for aspect, names in classes.items():
            wanted = _numbers(captions, aspect, names).to(device)
            scores, named = heads[aspect](pooled), wanted != UNNAMED
            if not named.any():
                continue
            loss = loss + F.cross_entropy(scores, wanted, ignore_index=UNNAMED)
            right[aspect] = (scores.argmax(1) == wanted)[named].float().mean().item()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return right


def _numbers(captions: Sequence[LabeledCaption], aspect: str, names: Sequence[str]) -> Tensor:
    """The class of each caption, `b`."""
    known = {name: number for number, name in enumerate(names)}
    return torch.tensor([known.get(each.classes.get(aspect, ""), UNNAMED) for each in captions])
