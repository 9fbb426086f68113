"""Time, measured: warm-up apart, several repeats, rivals in turn so that drift of the machine hits all alike."""

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

LEAST_REPEATS = 3
MOST_REPEATS = 20
SECONDS_IN_ALL = 6.0
SECONDS_A_TURN = 1.0

Way = Callable[[int], float]
"""Runs something so many times; returns the seconds that took."""


class RepeatTiming(NamedTuple):
    """Seconds of one run, one value a repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The repeat in the middle."""
        return median(self.seconds)

    def per_second(self, things: float) -> float:
        """Rate of a run that gets so many things done."""
        return things / self.median


def in_turn(ways: Mapping[str, Way], repeats: int | None = None) -> dict[str, RepeatTiming]:
    """Each way's time, all taking turns.

    A turn is as many runs as take SECONDS_A_TURN, after one or two that do not count: while another's turn lasted,
    caches were lost, and on a virtual machine the host took freed memory back, whose first touch costs a second a GB.
    Without `repeats` there are LEAST_REPEATS turns, and more as long as all turns together have not taken
    SECONDS_IN_ALL.
    """
    runs = {name: _runs_a_turn(way) for name, way in ways.items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    begun = perf_counter()
    while not _enough(len(next(iter(taken.values()))), perf_counter() - begun, repeats):
        for name, way in ways.items():
            way(min(2, runs[name]))
            taken[name].append(way(runs[name]) / runs[name])
    return {name: RepeatTiming(tuple(seconds)) for name, seconds in taken.items()}


def _runs_a_turn(way: Way) -> int:
    """By the second run, as the first also sets up."""
    way(1)
    return max(1, round(SECONDS_A_TURN / max(way(1), 1e-6)))


def _enough(turns: int, seconds: float, repeats: int | None) -> bool:
    if repeats:
        return turns >= repeats
    return turns >= MOST_REPEATS or (turns >= LEAST_REPEATS and seconds >= SECONDS_IN_ALL)


def clocked(run: Callable[[], object]) -> Way:
    """A way that runs a function which has finished when it returns."""

    def way(times: int) -> float:
        begun = perf_counter()
        for _ in range(times):
            run()
        return perf_counter() - begun

    return way


def ratio(ours: RepeatTiming, theirs: RepeatTiming) -> float:
    """How many times as fast ours is: the median over repeats of each pair of turns, which saw the same machine."""
    return median(their / our for our, their in zip(ours.seconds, theirs.seconds, strict=True))


def rate(timing: RepeatTiming, things: float) -> dict[str, Any]:
    """Things a second of a run that gets so many done: the median, and the least and the most."""
    return {
        "per_s": timing.per_second(things),
        "per_s_spread": [things / max(timing.seconds), things / min(timing.seconds)],
    }
