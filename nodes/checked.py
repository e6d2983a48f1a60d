"""Every input of a node is compared with the node's own schema before anything is done with it.

The host checks the kinds of links, and the range of numbers that are typed in. It lets through what is typed where a
link belongs, choices outside of their list, numbers out of range that come over a link, and whatever a node of another
pack hands out under a name that it shares with others.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import wraps
from numbers import Integral, Real
from typing import Any, TypeVar

from comfy_api.latest import io
from torch import Tensor

from ..i2v_core.conditions import GivenImage
from .host.image_projection import HostImageProjection
from .host.paths import printed
from .sockets import GivenAdapter

N = TypeVar("N", bound=type[io.ComfyNode])
LONGEST = 100_000  # letters of a text: a book's chapter
CHOICES = 12  # that a sentence lists
# What the host's objects of a kind can do; other packs bring classes of their own.
ABILITIES = {
    "MODEL": ("clone", "model_options", "model"), "VAE": ("encode", "decode"), "CLIP": ("tokenize",),
    "CLIP_VISION": ("encode_image",), "VIDEO": ("get_components",),
}  # fmt: skip
CLASSES = {"I2V_IMAGE": GivenImage, "I2V_ADAPTER": GivenAdapter, "I2V_IMAGE_PROJECTION": HostImageProjection}


def checked_node(node: N) -> N:
    """The node, whose `execute` refuses inputs that its schema does not allow, in one sentence of a ValueError."""
    execute = vars(node)["execute"].__func__
    if not hasattr(execute, "__wrapped__"):
        node.execute = classmethod(_checked(execute))
        if fingerprint := vars(node).get("fingerprint_inputs"):
            node.fingerprint_inputs = classmethod(_unfailing(fingerprint.__func__))
    return node


def _unfailing(fingerprint: Callable[..., Any]) -> Callable[..., Any]:
    """A fingerprint that is None where it cannot be taken, since `execute` says why in a sentence.

    The host logs what a fingerprint raises, and a name with half of a surrogate pair in it ends the thread that works
    on prompts.
    """

    @wraps(fingerprint)
    def run(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> Any:
        try:
            return fingerprint(cls, *args, **kwargs)
        except (OSError, ValueError, TypeError):
            return None

    return run


def _checked(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    signature = inspect.signature(execute)

    @wraps(execute)
    def run(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> io.NodeOutput:
        bound = signature.bind(cls, *args, **kwargs).arguments
        free = next((name for name, each in signature.parameters.items() if each.kind is each.VAR_KEYWORD), None)
        check_inputs(cls.define_schema(), {**bound, **bound.get(free or "", {})})
        return execute(cls, *args, **kwargs)

    return run


def check_inputs(schema: io.Schema, given: Mapping[str, Any]) -> None:
    """Compare inputs, by name, with a schema; one that is not given is the node's own business.

    Raises ValueError for the first that does not fit: node, input, what was expected, what arrived.
    """
    for entry in schema.inputs:
        value = given.get(entry.id)
        if entry.id not in given or (value is None and entry.optional):
            continue
        if problem := problem_of(entry, value):
            raise ValueError(f"{schema.display_name}: {entry.id} expects {problem}, got {shown(value)}.")


def problem_of(entry: Any, value: Any) -> str | None:
    """The expectation of an input that a value does not meet; None if it fits."""
    kinds = entry.get_io_type().split(",")
    problems = [_problem(kind, entry, value) for kind in kinds]
    return None if None in problems else " or ".join(filter(None, problems))


def _problem(kind: str, entry: Any, value: Any) -> str | None:
    if kind in ("INT", "FLOAT"):
        return _number_problem(kind, entry, value)
    if kind == "BOOLEAN":
        return None if isinstance(value, bool | Integral) else "true or false"
    if kind == "STRING":
        return _text_problem(value)
    if kind == "COMBO":
        if value in (options := list(entry.options or ())) and isinstance(value, str):
            return None
        return f"one of its list ({', '.join(options[:CHOICES])}{', ...' if len(options) > CHOICES else ''})"
    if kind in CLASSES:
        return None if isinstance(value, CLASSES[kind]) else _link(kind)
    if kind in ABILITIES:
        return None if all(hasattr(value, name) for name in ABILITIES[kind]) else _link(kind)
    return STRUCTURES[kind](value) if kind in STRUCTURES else None


def _link(kind: str) -> str:
    return f"{kind} over a link from a node that has it"


def _number_problem(kind: str, entry: Any, value: Any) -> str | None:
    low, high = entry.min, entry.max
    wanted = "a whole number" if kind == "INT" else "a number"
    wanted += f" from {low} to {high}" if low is not None and high is not None else ""
    if not isinstance(value, Integral if kind == "INT" else Real) or not math.isfinite(value):
        return wanted
    return wanted if (low is not None and value < low) or (high is not None and value > high) else None


def _text_problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return "a text"
    if len(value) > LONGEST:
        return f"a text of at most {LONGEST} letters"
    return "a text that can be written" if any("\ud800" <= letter <= "\udfff" for letter in value) else None


def _image_problem(value: Any) -> str | None:
    # Whether they are finite, who takes them says with more advice, and at less cost.
    fits = isinstance(value, Tensor) and value.ndim == 4 and value.numel() and value.is_floating_point()
    return None if fits else _link("IMAGE") + ", at least one frame of `t h w c`"


def _latent_problem(value: Any) -> str | None:
    wanted = _link("LATENT") + ", finite samples with a batch and channels"
    samples = value.get("samples") if isinstance(value, Mapping) else None
    if getattr(samples, "is_nested", False) and not isinstance(samples, Tensor):
        return None  # sound and video together, which the host packs by itself
    if not isinstance(samples, Tensor) or samples.ndim < 3 or not samples.numel() or not samples.is_floating_point():
        return wanted
    return None if samples.isfinite().all() else wanted


def _conditioning_problem(value: Any) -> str | None:
    wanted = _link("CONDITIONING") + ", pairs of features `b n d` and a dictionary"
    if not isinstance(value, list | tuple) or not value:
        return wanted
    pairs = all(isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[1], Mapping) for pair in value)
    if not pairs:
        return wanted
    features = [pair[0] for pair in value if isinstance(pair[0], Tensor)]
    return None if all(each.ndim == 3 and each.numel() for each in features) else wanted


def _audio_problem(value: Any) -> str | None:
    wanted = _link("AUDIO") + ", a finite waveform `b c s` and a positive sample_rate"
    waveform, rate = (value.get("waveform"), value.get("sample_rate")) if isinstance(value, Mapping) else (None, None)
    if (
        not isinstance(waveform, Tensor)
        or waveform.ndim != 3
        or not isinstance(rate, int | float)
        or not 0 < rate < math.inf
    ):
        return wanted
    return None if waveform.isfinite().all() else wanted


def _sigmas_problem(value: Any) -> str | None:
    fits = isinstance(value, Tensor) and value.ndim == 1 and value.numel() and value.isfinite().all()
    return None if fits else _link("SIGMAS") + ", finite noise levels"


STRUCTURES: Mapping[str, Callable[[Any], str | None]] = {
    "IMAGE": _image_problem, "LATENT": _latent_problem, "CONDITIONING": _conditioning_problem,
    "AUDIO": _audio_problem, "SIGMAS": _sigmas_problem,
}  # fmt: skip


def shown(value: Any) -> str:
    """A value that arrived, in a few words of one line."""
    if value is None:
        return "nothing"
    if isinstance(value, Tensor):
        finite = value.is_floating_point() and not value.isfinite().all()
        return f"a tensor of shape {tuple(value.shape)}{' with NaN or infinite values' if finite else ''}"
    if isinstance(value, Mapping):
        keys = printed(", ".join(map(str, list(value)[:5])))
        return f"a dictionary of {keys}" if value else "an empty dictionary"
    if isinstance(value, str | bool | Real | list | tuple):
        text = printed(repr(value) if isinstance(value, str) else str(value))
        return text if len(text) < 60 else f"{text[:57]}..."
    return f"an object of {type(value).__name__}"
