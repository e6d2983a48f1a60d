"""A probe of a network in training: what its words and its picture are worth, in the error of its prediction.

Clips that no training saw are noised in the same way every time, and answered under the right caption and picture,
under the words of another motion, under no words, and under another clip's picture. What a wrong one adds to the
squared error is what the right one is worth; near zero it is not used. This costs seconds and says more than samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data.clips import ClipBatch, ClipData, Items, LatentEncoder, MotionData, collate, encode_clips
from .objective import ClipLosses
from .per_clip_random import PerClipRandom

PROBE_OFFSET = 20_000_000  # clips of other numbers than those for training and for fits
TIMES = (0.999, 0.6, 0.3)  # of the schedule
SEED = 0

LossFunction = Callable[[ClipBatch, PerClipRandom], ClipLosses]


@dataclass(frozen=True)
class ProbeClips:
    """Clips of a probe, and a wrong caption for each."""

    batch: ClipBatch
    contrast: list[str]

    def variants(self) -> Mapping[str, ClipBatch]:
        """The batch with something wrong or missing, by what that is."""
        batch = self.batch
        bare = replace(batch, text=None, pooled_text=None)  # the captions are encoded anew
        return {
            "word": replace(bare, captions=self.contrast),
            "text": replace(bare, captions=[""] * len(batch.captions)),
            "picture": replace(batch, image=batch.image.roll(1, 0), given=batch.image_latent.roll(1, 0)),
        }


def probe_clips(
    data: ClipData, autoencoder: LatentEncoder, clips: int, batch_size: int, device: torch.device | str, unseen: bool
) -> list[ProbeClips]:
    """The clips of a probe, of no training's pictures if `unseen` and the data can, in batches of at least two.

    A wrong caption is the clip's own with another motion, or another clip's where the data does not know motions.
    """
    source = data.held_out() if unseen and isinstance(data, MotionData) else data
    size, batches = max(2, batch_size), list[ProbeClips]()
    for first in range(PROBE_OFFSET, PROBE_OFFSET + clips, size):
        items = range(first, min(first + size, PROBE_OFFSET + max(2, clips)))
        raw = collate([Items(source)[item] for item in items])
        others = [*raw.captions[1:], raw.captions[0]]
        contrast = [source.contrast(item) for item in items] if isinstance(source, MotionData) else others
        batches.append(ProbeClips(encode_clips(raw.to(device), autoencoder), contrast))
    return batches


@torch.no_grad()
def probe(loss: LossFunction, batches: Sequence[ProbeClips], timesteps: int) -> dict[str, float]:
    """Mean squared errors at fixed times, and what a wrong motion word, no text and a wrong picture add to them.

    Args:
        loss: of a batch and its draws; its plain losses count.
        timesteps: of the schedule.

    Returns:
        By time step t `probe_t`, and `probe_t_word`, `probe_t_text`, `probe_t_picture` with the standard errors of
        these differences, `..._error`.
    """
    row: dict[str, float] = {}
    for time in (int(part * timesteps) for part in TIMES):

        def errors(batch: ClipBatch, timestep: int = time) -> Tensor:
            return loss(batch, PerClipRandom.of(SEED, batch.items, timestep)).plain.double().cpu()

        right = [errors(clips.batch) for clips in batches]
        row[f"probe_{time}"] = torch.cat(right).mean().item()
        for name in ("word", "text", "picture"):
            wrong = [errors(clips.variants()[name]) for clips in batches]
            added = torch.cat(wrong) - torch.cat(right)
            row[f"probe_{time}_{name}"] = added.mean().item()
            row[f"probe_{time}_{name}_error"] = (added.std() / len(added) ** 0.5).item()
    return row


@dataclass
class Probe:
    """The probe of a run: its clips are made at the first time and kept.

    Args:
        loss: of the run's objective.
        clips, batch_size: how many clips, and how many at once.
        timesteps: of the schedule.
        unseen: of pictures and phrases that no training saw, where the data can.
    """

    loss: LossFunction
    data: ClipData
    autoencoder: LatentEncoder
    clips: int
    batch_size: int
    timesteps: int
    unseen: bool = True
    _batches: list[ProbeClips] | None = None

    def row(self, device: torch.device | str) -> dict[str, float]:
        """The numbers of the weights as they are; see `probe`."""
        if self._batches is None:
            self._batches = probe_clips(self.data, self.autoencoder, self.clips, self.batch_size, device, self.unseen)
        return probe(self.loss, self._batches, self.timesteps)
