"""Captions of moving figures: who, how it moves, how fast, and before what; and the classes that they name.

A subject, a movement and a place are drawn apart, so captions that no training saw are new combinations of known words.
"""

from collections.abc import Mapping, Sequence

import torch

from .clips import LabeledCaption

FIGURE_MOTIONS = ("left", "right", "up", "down", "grow", "shrink", "turn", "still")
CAMERA_MOTIONS = ("pan_left", "pan_right", "pan_up", "pan_down", "zoom_in", "zoom_out")
SPEEDS: Mapping[str, float] = {"": 1.0, "slowly": 0.5, "quickly": 1.5}

MOVES: Mapping[str, tuple[str, ...]] = {
    "left": ("slides left", "slides to the left", "moves to the left", "goes left"),
    "right": ("slides right", "slides to the right", "moves to the right", "goes right"),
    "up": ("rises", "moves up", "goes up", "floats up"),
    "down": ("sinks", "moves down", "goes down", "falls down"),
    "grow": ("grows", "becomes larger", "gets closer", "gets bigger"),
    "shrink": ("shrinks", "becomes smaller", "goes away", "gets smaller"),
    "turn": ("turns", "spins", "rotates clockwise", "turns clockwise"),
    "still": ("stays", "stays still", "does not move", "rests"),
    "pan_left": ("while the camera pans left", "as the camera moves left", "pan left"),
    "pan_right": ("while the camera pans right", "as the camera moves right", "pan right"),
    "pan_up": ("while the camera pans up", "as the camera moves up", "pan up"),
    "pan_down": ("while the camera pans down", "as the camera moves down", "pan down"),
    "zoom_in": ("while the camera zooms in", "as the camera gets closer", "zoom in"),
    "zoom_out": ("while the camera zooms out", "as the camera moves away", "zoom out"),
}
# Of known words, in no training.
UNSEEN_MOVES: Mapping[str, tuple[str, ...]] = {
    "left": ("moves left", "goes to the left"),
    "right": ("moves right", "goes to the right"),
    "up": ("rises up",),
    "down": ("sinks down",),
    "grow": ("becomes bigger", "gets larger"),
    "shrink": ("gets smaller and goes away",),
    "turn": ("spins clockwise",),
    "still": ("rests still",),
    "pan_left": ("while the camera moves left", "as the camera pans left"),
    "pan_right": ("while the camera moves right", "as the camera pans right"),
    "pan_up": ("while the camera moves up", "as the camera pans up"),
    "pan_down": ("while the camera moves down", "as the camera pans down"),
    "zoom_in": ("while the camera gets closer",),
    "zoom_out": ("while the camera moves away",),
}
NAMELESS = ("it", "the figure", "something", "the thing")


def choose(generator: torch.Generator, options: Sequence[str]) -> str:
    """One of the options, all equally likely."""
    return options[int(torch.randint(len(options), (), generator=generator))]


def happens(generator: torch.Generator, share: float) -> bool:
    """True with this probability; always one number from the generator."""
    return torch.rand((), generator=generator).item() < share


def say(
    generator: torch.Generator,
    name: str,
    motion: str,
    speed: str,
    place: str,
    *,
    named: float = 0.5,
    placed: float = 0.5,
    unseen: bool = False,
) -> LabeledCaption:
    """Draw a caption.

    Args:
        name: of the figure; spoken with the probability `named`.
        motion: key of `MOVES`.
        speed: key of `SPEEDS`, spoken unless it is "".
        place: such as "blue" or "blue and pink"; spoken with the probability `placed` unless it is "".
        unseen: move in words that no training has.
    """
    aspects = {"motion": motion, "speed": speed}
    nameless = choose(generator, NAMELESS)
    if happens(generator, named):
        subject, aspects["name"] = f"a {name}", name
    else:
        subject = nameless
    # All draws are made whatever is said, so that another motion leaves the rest of the caption as it is.
    pick = torch.rand((), generator=generator).item()
    moves = (UNSEEN_MOVES if unseen else MOVES)[motion]
    words = [subject, moves[int(pick * len(moves))], speed]
    if happens(generator, placed) and place:
        words.append(f"on {place}")
        aspects["color"] = place.split(maxsplit=1)[0]
    return LabeledCaption(" ".join(word for word in words if word), aspects)
