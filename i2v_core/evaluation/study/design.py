"""Design of a user study: what raters see in which order, random, blind and balanced.

Pairs as in TRIP (section 4.1): two clips made from the same inputs, the better one is chosen. Scales as in DreamVideo
(section 5.7): one clip, five levels.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

StudyKind = Literal["pairs", "scales"]
QUESTIONS: Mapping[StudyKind, tuple[str, ...]] = {
    "pairs": ("Temporal coherence", "Motion fidelity", "Visual quality"),
    "scales": ("Initial frame retention", "Prompt alignment", "Video quality"),
}
LEVELS = ("Extremely dissatisfied", "Dissatisfied", "Neutral", "Satisfied", "Extremely satisfied")


@dataclass(frozen=True)
class StudyConfig:
    """A study.

    Attributes:
        raters: how many will take part; each has a number and an order of their own.
        trials: that each rater sees; None shows everything to everyone.
        questions: asked of every trial; empty takes the paper's.
        seed: of all that is random.

    Raises ValueError for a number below 1, an unknown kind, or a question that is asked twice.
    """

    kind: StudyKind
    raters: int = 8
    trials: int | None = None
    questions: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in QUESTIONS:
            raise ValueError(f"a study is one of {', '.join(QUESTIONS)}, got {self.kind!r}")
        if self.raters < 1 or (self.trials is not None and self.trials < 1):
            raise ValueError(f"a study needs at least one rater and one trial, got {self.raters} and {self.trials}")
        if len(set(self.questions)) < len(self.questions):
            raise ValueError(f"every question is asked once, got {list(self.questions)}")

    @property
    def asked(self) -> tuple[str, ...]:
        return self.questions or QUESTIONS[self.kind]


@dataclass(frozen=True)
class Trial:
    """Clips of one item that are judged together: two labels of a pair, or one."""

    item: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Showing:
    """A trial by its number, and its labels from left to right."""

    trial: int
    labels: tuple[str, ...]


def list_trials(kind: StudyKind, items: Sequence[str], labels: Sequence[str]) -> list[Trial]:
    """Every trial: each item with the first label against every other one, or with each label alone.

    Raises ValueError for pairs of fewer than two labels, or without items.
    """
    if not items:
        raise ValueError("There are no clips to show.")
    if kind == "pairs" and len(labels) < 2:
        raise ValueError(f"Pairs need two folders of results or more, got {len(labels)}: name another one.")
    sides = [(labels[0], other) for other in labels[1:]] if kind == "pairs" else [(label,) for label in labels]
    return [Trial(item, side) for item in items for side in sides]


def plan(trials: Sequence[Trial], config: StudyConfig) -> list[list[Showing]]:
    """The order of each rater.

    Every trial is seen by the same number of raters (or one more); each label lies left as often as right, for every
    trial over the raters and for every rater over the trials, but for what an odd number leaves.
    """
    generator = random.Random(config.seed)
    deck = list(range(len(trials)))
    generator.shuffle(deck)
    first_side: dict[int, int] = {}
    seen: dict[tuple[str, ...], int] = defaultdict(int)
    for number in deck:
        labels = trials[number].labels
        first_side[number] = seen[labels]
        seen[labels] += 1
    each = min(config.trials or len(deck), len(deck))
    plans = []
    for rater in range(config.raters):
        dealt = [divmod(rater * each + i, len(deck)) for i in range(each)]
        shown = []
        for round_, place in dealt:
            number = deck[place]
            swapped = (first_side[number] + round_) % 2 == 1
            labels = trials[number].labels
            shown.append(Showing(number, labels[::-1] if swapped else labels))
        generator.shuffle(shown)
        plans.append(shown)
    return plans


def clip_id(config: StudyConfig, label: str, item: str) -> str:
    """Name of a clip where raters can read it; it does not tell the label."""
    return hashlib.sha256(f"{config.seed}/{label}/{item}".encode()).hexdigest()[:12]
