"""Dispatches: the calls of a compiled program that train a phase, each up to the next log or checkpoint."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from asdjax.config.fields import Config


class Dispatch(NamedTuple):
    """One call of the compiled program: each run's first step (m,), and its number of steps."""

    first: tuple[int, ...]
    steps: int


def plan_dispatches(config: Config, first: Sequence[int], last: Sequence[int], most: int) -> Iterator[Dispatch]:
    """Yield dispatches of at most `most` steps to the end of every run.

    A dispatch ends at the next log, checkpoint or end of any run that still moves.
    """
    intervals = [every for every in (config.train.log_every_steps, config.train.checkpoint_every_steps) if every]
    now = tuple(first)
    while moving := [(step, end) for step, end in zip(now, last, strict=True) if step < end]:
        due_in = [min(end - step, *(every - step % every for every in intervals)) for step, end in moving]
        dispatch = Dispatch(now, min(most, *due_in))
        yield dispatch
        now = advance(dispatch, last)


def advance(dispatch: Dispatch, last: Sequence[int]) -> tuple[int, ...]:
    """Return each run's step after a dispatch; a finished run stays at its last."""
    return tuple(min(first + dispatch.steps, end) for first, end in zip(dispatch.first, last, strict=True))


def is_due(step: int, every: int, last: int) -> bool:
    """Return whether an action is due after a step: at every multiple of `every`, unless it is 0, and at the last."""
    return step == last or (every > 0 and step % every == 0)
