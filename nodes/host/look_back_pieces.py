"""A long video in pieces along time, with what look-back carries from one to the next, in any sampler of the host."""

import copy
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...i2v_core.model.look_back import LookBackState, SiteState

HOST_MEMORY = "cpu"


class CarriedStates:
    """Look-back's memory for every call of the model and every condition, in host memory.

    Conditions are told apart by the host's own ids, because it may run them in one call or in several, in any order.
    """

    def __init__(self) -> None:
        self.states: dict[Hashable, LookBackState] = {}
        self.sigmas: list[float] = []
        self.pieces, self.call = 0, -1
        self.runs: Counter[Hashable] = Counter()

    @property
    def nbytes(self) -> int:
        return sum(state.nbytes for state in self.states.values())

    def next_piece(self) -> None:
        """Begin a piece: the calls are counted anew."""
        self.pieces, self.call = self.pieces + 1, -1

    def next_call(self, sigma: float) -> None:
        """Begin a call of the model at this noise level.

        Raises ValueError if the sampler takes other steps than in the first piece.
        """
        self.call += 1
        self.runs.clear()
        if self.pieces == 1:
            self.sigmas.append(sigma)
        elif self.call >= len(self.sigmas) or self.sigmas[self.call] != sigma:
            raise ValueError(
                "This sampler chooses other steps in every piece of the video, where look-back cannot carry on: use "
                "one with fixed steps, such as euler or dpmpp_2m, or set frames_at_once to 0."
            )

    @contextmanager
    def opened(self, conditions: Sequence[Hashable]) -> Iterator[LookBackState]:
        """The memory of these conditions at this call, joined along the batch, and kept as it is left."""
        keys = []
        for condition in conditions:
            # Some nodes run the same condition twice in one step.
            keys.append((self.call, condition, self.runs[condition]))
            self.runs[condition] += 1
        joined = join_states([self.states.pop(key, LookBackState(HOST_MEMORY)) for key in keys])
        yield joined
        self.states.update(zip(keys, split_state(joined, len(keys)), strict=True))


def join_states(states: Sequence[LookBackState]) -> LookBackState:
    """One state for a batch; the states are all begun or all new."""
    joined = LookBackState(states[0].device)
    for site in states[0].sites:
        parts = [state.sites[site] for state in states]
        recurrence = zip(*(part.recurrence for part in parts), strict=True)
        joined.sites[site] = SiteState(tuple(map(torch.cat, recurrence)), torch.cat([part.tail for part in parts]))
    return joined


def split_state(state: LookBackState, count: int) -> list[LookBackState]:
    """The inverse of `join_states`, in memory of their own."""
    states = [LookBackState(state.device) for _ in range(count)]
    for site, (recurrence, tail) in state.sites.items():
        frames = [frame.chunk(count) for frame in recurrence]
        for i, (part, end) in enumerate(zip(states, tail.chunk(count), strict=True)):
            part.sites[site] = SiteState(tuple(frame[i].clone() for frame in frames), end.clone())
    return states


def sample_in_pieces(
    sample: Callable[..., Tensor],
    guider: Any,
    extra_args: dict[str, Any],
    callback: Any,
    inputs: Sequence[Tensor | None],
    frames: int,
    frames_at_once: int,
    carried: CarriedStates,
) -> Tensor:
    """Sample every piece from noise to picture before the next one begins.

    Args:
        sample: `(guider, extra_args, callback, part, *inputs) -> rows` for the frames `part` of every clip.
        inputs: noise, latent image and mask, `(b t) c h w` each or None.
        frames: of each clip.

    Returns:
        Latents `(b t) c h w`.
    """
    noise = inputs[0]
    assert noise is not None
    estimate, result, conds = torch.zeros_like(noise), torch.zeros_like(noise), guider.conds
    starts = range(0, frames, frames_at_once)
    try:
        for number, start in enumerate(starts):
            part = slice(start, min(start + frames_at_once, frames))
            rows = rows_of(part, frames, len(noise), noise.device)
            carried.next_piece()
            guider.conds = cut_conditions(conds, rows, len(noise))
            # Samplers that add noise seed it themselves, and would add the same to every piece.
            own = extra_args | {"seed": (extra_args.get("seed") or 0) + start}
            told = callback and _piece_callback(callback, estimate, rows, number, len(starts))
            cut = [None if tensor is None else tensor[rows] for tensor in inputs]
            result[rows] = sample(guider, own, told, part, *cut)
            if number == 0:
                _log_size(carried)
    finally:
        guider.conds = conds
    return result


def rows_of(part: slice, frames: int, rows: int, device: torch.device) -> Tensor:
    """Indices of the rows `(b t)` that hold these frames of every clip."""
    return torch.arange(rows, device=device).reshape(-1, frames)[:, part].reshape(-1)


def cut_conditions(conds: dict[str, list[dict[str, Any]]], rows: Tensor, total: int) -> dict[str, list[dict[str, Any]]]:
    """Copies of the host's conditions in which what is given for every one of `total` rows is given for these."""
    controls: dict[int, Any] = {}

    def cut(value: Any) -> Any:
        return value[rows.to(value.device)] if torch.is_tensor(value) and len(value) == total else value

    def cut_control(control: Any) -> Any:
        # The same object for all conditions that share it, or the host no longer runs them in one call.
        if control is not None and id(control) not in controls:
            own = copy.copy(control)
            own.cond_hint, own.cond_hint_original = None, cut(control.cond_hint_original)
            own.previous_controlnet = cut_control(control.previous_controlnet)
            controls[id(control)] = own
        return None if control is None else controls[id(control)]

    def cut_one(cond: dict[str, Any]) -> dict[str, Any]:
        model_conds = {key: value._copy_with(cut(value.cond)) for key, value in cond["model_conds"].items()}
        return cond | {"model_conds": model_conds, **{k: f(cond[k]) for k, f in known.items() if k in cond}}

    known = {"control": cut_control, "mask": cut}
    return {name: [cut_one(cond) for cond in entries] for name, entries in conds.items()}


def _piece_callback(callback: Any, estimate: Tensor, rows: Tensor, number: int, count: int) -> Callable[..., None]:
    """Progress over all pieces, with the estimate of the whole video so far."""

    def told(step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        estimate[rows] = denoised.to(estimate)
        callback(number * total + step, estimate, x, count * total)

    return told


def _log_size(carried: CarriedStates) -> None:
    logging.getLogger(__name__).info(
        "look-back carries %.1f MB from piece to piece, in host memory, for %d calls of the model",
        carried.nbytes / 1e6,
        len(carried.sigmas),
    )
